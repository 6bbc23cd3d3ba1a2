"""Container: a compressed network in one file to ship, from which its library is built where it will run.

    magic, version      8 bytes, and 2
    length, checksum    of the body: 8 bytes, and its CRC-32 in 4
    contents            4 bytes of length, then JSON (xz): the networks, the report, the plan, the arrays
    arrays              one after the other, entropy coded (`tersor.shipping.entropy`)

A network is TVM's JSON of a module that says exactly what is computed, without its weights, one for each
bucket; of arrays that are equal the first is stored. Numbers are little endian. Nothing in it is code.
"""

import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict

from tersor.document import parse_json, to_json
from tersor.error import UserError
from tersor.ir.graph import Graph
from tersor.ir.untyped import tvm
from tersor.plan import Plan
from tersor.report import Report
from tersor.shipping.entropy import decode, encode

Array = npt.NDArray[Any]
MAGIC, VERSION = b"\x93TERSOR\n", 1
_HEAD = struct.Struct("<8sHQI")
_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "bool")
_LARGEST_CONTENTS = 1 << 30  # bytes of JSON: more is no description of a network


@dataclass(frozen=True)
class Package:
    """What a container holds: the networks of all buckets with their weights, the plan and the report."""

    mods: tuple[Any, ...]
    plan: Plan
    report: Report


@dataclass(frozen=True)
class ArrayEntry:
    """An array of the file: `data` bytes coded as `coding` says."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: str
    data: int

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES or self.data < 0 or any(size < 0 for size in self.shape):
            raise ValueError(f"{self.dtype} {list(self.shape)} of {self.data} bytes is no array")


@dataclass(frozen=True)
class NetworkEntry:
    """A network of the file: its module as JSON, and which of the arrays are its weights, in order."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    module: str
    weights: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """The JSON of a file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    networks: tuple[NetworkEntry, ...]
    arrays: tuple[ArrayEntry, ...]
    plan: Plan
    report: Report


@dataclass(frozen=True)
class Size:
    """Bytes of a container: the file, its contents without arrays, and the arrays.

    `bound` is what the arrays' symbols need by their entropy, `stored` what they took before they were coded.
    """

    file: int
    contents: int
    arrays: int
    bound: float
    stored: int


def pack(package: Package) -> tuple[bytes, Size]:
    """Give the bytes of a container, and what they are made of. Raises UserError without constriction."""
    entries: list[ArrayEntry] = []
    coded: list[bytes] = []
    known: dict[tuple[str, tuple[int, ...], bytes], int] = {}
    networks: list[NetworkEntry] = []
    bound, stored = 0.0, 0
    for mod in package.mods:
        weights: list[int] = []
        for var, array in Graph(mod).weights.items():
            key = str(array.dtype), array.shape, array.tobytes()
            if key not in known:
                found = encode(array)
                known[key] = len(entries)
                entries.append(ArrayEntry(var.name, key[0], array.shape, found.coding, len(found.data)))
                coded.append(found.data)
                bound, stored = bound + found.bound, stored + array.nbytes
            weights.append(known[key])
        networks.append(NetworkEntry(tvm.ir.save_json(_without_weights(mod)), tuple(weights)))
    contents = Contents(tuple(networks), tuple(entries), package.plan, package.report)
    text = lzma.compress(to_json(contents, Contents).encode(), preset=9 | lzma.PRESET_EXTREME)
    body = b"".join([struct.pack("<I", len(text)), text, *coded])
    head = _HEAD.pack(MAGIC, VERSION, len(body), zlib.crc32(body))
    return head + body, Size(len(head) + len(body), len(text), sum(map(len, coded)), bound, stored)


def unpack(data: bytes, origin: str) -> Package:
    """Read a container; `origin` names it in errors. Raises UserError for what is none, or is damaged."""
    body = _checked(data, origin)
    try:
        (length,) = struct.unpack_from("<I", body)
        decompressor = lzma.LZMADecompressor()
        text = decompressor.decompress(body[4 : 4 + length], _LARGEST_CONTENTS).decode()
        if not decompressor.eof:
            raise ValueError("the contents end too early")
        contents = parse_json(text, Contents, origin)
        arrays: list[Array] = []
        start = 4 + length
        for entry in contents.arrays:
            part = body[start : start + entry.data]
            arrays.append(decode(part, entry.coding, entry.shape, np.dtype(entry.dtype).newbyteorder("<")))
            start += entry.data
        mods = tuple(_with_weights(network, arrays) for network in contents.networks)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # of TVM's reader, lzma, numpy: whatever was written that `pack` does not write
        raise UserError(f"{origin} is damaged: pack the model again") from error
    return Package(mods, contents.plan, contents.report)


def save(path: Path, data: bytes) -> None:
    """Write a container, whole or not at all. Raises UserError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def load(path: Path) -> Package:
    """Read a container's file. Raises UserError."""
    try:
        return unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _checked(data: bytes, origin: str) -> bytes:
    if not data.startswith(MAGIC[: len(data)]) or not data:
        raise UserError(f"{origin} is no container: give a file that `tersor pack` wrote")
    if len(data) < _HEAD.size:
        raise UserError(f"{origin} is truncated: copy it again")
    _, version, length, checksum = _HEAD.unpack_from(data)
    if version != VERSION:
        raise UserError(
            f"{origin} is of version {version}, this tersor reads {VERSION}: pack the model again"
        )
    body = data[_HEAD.size :]
    if len(body) < length:
        raise UserError(f"{origin} is truncated, {length - len(body)} bytes are missing: copy it again")
    if len(body) > length or zlib.crc32(body) != checksum:
        raise UserError(f"{origin} is damaged, its checksum is wrong: copy it again")
    return body


def _without_weights(mod: Any) -> Any:
    bare = tvm.IRModule(dict(mod.functions.items()))
    bare.update_func(bare.get_global_var("main"), mod["main"].without_attr("params"))
    return bare


def _with_weights(network: NetworkEntry, arrays: Sequence[Array]) -> Any:
    mod = tvm.ir.load_json(network.module)
    function = mod["main"]
    variables = function.params[int(function.attrs["num_input"]) :]
    weights = [arrays[index] for index in network.weights]
    for var, array in zip(variables, weights, strict=True):
        if tuple(int(size) for size in var.ty.shape) != array.shape or str(var.ty.dtype) != str(array.dtype):
            raise ValueError(f"{var.name} is no array of {prod(array.shape)} numbers")
    tensors = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in weights]
    mod.update_func(mod.get_global_var("main"), function.with_attr("params", tensors))
    return mod
