"""Silence: C++ code writes to stdout and stderr what is meant for its own developers."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import IO

_C = ctypes.CDLL(None)  # the C library, which keeps what is printed in buffers of its own


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send stderr nowhere, also for C++: TVM prints `Warning: Scope` for each constant it saves or loads."""
    with _nowhere(sys.stderr, 2):
        yield


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send stdout nowhere, also for C++: HiGHS prints names of functions there, whatever it is told."""
    with _nowhere(sys.stdout, 1):
        yield


@contextlib.contextmanager
def _nowhere(stream: IO[str], descriptor: int) -> Iterator[None]:
    stream.flush()
    _C.fflush(None)
    kept = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        _C.fflush(None)
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)
