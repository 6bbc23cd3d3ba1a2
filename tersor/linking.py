"""Linking: object code to a shared library, with the system's C++ compiler or one that pip installs."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tersor.error import UserError
from tersor.silence import quiet_stderr

_CODE = 8 << 20  # bytes that the code of a large network takes
_PIECE = 1 << 20
COMPILERS = ("g++", "clang++", "c++")


def export_library(executable: Any, path: Path, constants: int = 0) -> None:
    """Write `executable`, with so many bytes of constants, as a shared library, whole or not at all.

    Equal modules give equal bytes. Raises UserError if there is no compiler or the file cannot be written.
    """
    command = find_linker()
    try:
        for folder in (Path(tempfile.gettempdir()), path.parent):
            _check_room(folder, _CODE + 2 * constants)
        handle, partial = tempfile.mkstemp(suffix=".so", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    try:
        with quiet_stderr():
            executable.export_library(partial, fcompile=_linker(command))
        Path(partial).chmod(0o644)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _check_room(folder: Path, size: int) -> None:
    """Raise OSError unless files of so many bytes can be written.

    Where LLVM finds that its object code does not fit on the disk it ends the process, and says nothing.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(0, size, _PIECE):
            file.write(bytes(_PIECE))


def find_linker() -> list[str]:
    """Give the command of a C++ compiler that can link. Raises UserError if there is none."""
    for name in COMPILERS:
        found = shutil.which(name)
        if found:
            return [found]
    if importlib.util.find_spec("ziglang"):
        # As a C compiler: for C++ it would first build a C++ library, which takes minutes.
        return [sys.executable, "-m", "ziglang", "cc"]
    raise UserError("no C++ compiler to link with: install g++ or clang++, or `pip install ziglang`")


def _linker(command: list[str]) -> Any:
    def link(output: str, objects: Sequence[str], options: Sequence[str] | None = None, **_: Any) -> None:
        # The linker writes down what it is given: without names and identifiers the bytes are the module's.
        quiet = ["-shared", "-fPIC", "-s", "-Wl,--build-id=none"]
        result = subprocess.run(
            [*command, *quiet, "-o", output, *objects, *(options or [])],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"linking with {' '.join(command)} failed: {last}")

    link.output_format = "so"  # pyright: ignore[reportFunctionMemberAccess]
    return link
