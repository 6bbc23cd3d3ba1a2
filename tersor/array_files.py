"""Array files: .npz and .npy, of which only the headers and then one row at a time are read, no pickles."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError

Array = NDArray[Any]


def read_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Read the shapes and dtypes of a file's arrays, without the arrays. Raises UserError if it is none."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return {path.stem: _header(file)[:2]}
        with zipfile.ZipFile(path) as archive:
            headers = {}
            for info in archive.infolist():
                with archive.open(info) as file:
                    headers[info.filename.removesuffix(".npy")] = _header(file)[:2]
            return headers
    except Exception as error:
        raise UserError(f"{str(path)!r} is no array file, or it is truncated") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Read a .npy header: shape, dtype, and whether the first index runs fastest."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, dtype, fortran


def read_rows(path: Path, member: str) -> Iterator[Array]:
    """Yield an array row by row along its first axis, from disk. Raises UserError where it is damaged."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                yield from _rows(file)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
                yield from _rows(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"the array {member!r} in {str(path)!r} is truncated or damaged") from error


def _rows(file: IO[bytes]) -> Iterator[Array]:
    shape, dtype, fortran = _header(file)
    if fortran:  # rows are scattered over the whole array
        yield from np.frombuffer(file.read(), dtype).reshape(shape[::-1]).T
        return
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    for _ in range(shape[0]):
        row = file.read(size)
        if len(row) != size:
            raise EOFError
        yield np.frombuffer(row, dtype).reshape(shape[1:])
