"""Compiled: functions for numba, of which Python calls only the outermost.

To compile them takes half a minute, so the machine code is kept. Numba takes code that it kept for that of a
function if that function's file is as old as it was; here it is also that of the files of all it calls, as
the outermost functions have a number in them that stands for all.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit

# None makes an array: nobody needs to count who uses them, which takes longer than a step.
PLAIN: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
# What only compiled functions call needs no way in from Python, which would take as long again to compile.
inner = njit(**PLAIN, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]


def outermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls, or take what was kept, where there is a place to keep it."""
    try:
        return njit(**PLAIN, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        return njit(**PLAIN)(function)


def digest() -> int:
    """A number for the sources of this folder."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(sha256(sources).digest()[:6], "little")
