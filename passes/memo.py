"""Memo: what was computed from equal arrays and settings is computed once.

A plan is carried out several times (for each bucket, for the library, for the report, in a race). An
algorithm that takes minutes asks here first; its results depend on nothing but its arguments.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import numpy as np

KEPT_BYTES = 1 << 30
"""What is kept at most; the oldest results go first."""

Result = TypeVar("Result")
_kept: "OrderedDict[str, tuple[object, int]]" = OrderedDict()


def remembered(compute: Callable[[], Result], size: int, *key: object) -> Result:
    """Give what `compute` gave for an equal `key` before, or call it.

    A key has arrays, and what a `repr` tells apart: texts, numbers, frozen dataclasses of those. The result,
    which takes about `size` bytes, is shared and must not be changed.
    """
    name = _digest(key)
    if name in _kept:
        _kept.move_to_end(name)
        return _kept[name][0]  # pyright: ignore[reportReturnType]
    result = compute()
    _kept[name] = (result, size)
    while len(_kept) > 1 and sum(each for _, each in _kept.values()) > KEPT_BYTES:
        _kept.popitem(last=False)
    return result


def _digest(key: tuple[object, ...]) -> str:
    sha = hashlib.sha256()
    for part in key:
        if isinstance(part, np.ndarray):
            sha.update(f"array {part.dtype.str} {part.shape}\n".encode())
            sha.update(np.ascontiguousarray(part).tobytes())
        else:
            sha.update(f"{type(part).__qualname__} {part!r}\n".encode())
    return sha.hexdigest()
