"""Levels: the numbers of a weight format before a scale multiplies them, in ascending order."""

from functools import cache
from typing import assert_never

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tersor.weight_format import (
    Binary,
    Codebook,
    Float,
    Integer,
    Microscaling,
    PowerOfTwo,
    Ternary,
    WeightFormat,
)

LARGEST_CODE = 127
# Elements of MXINT8 are fractions: 8-bit integers times this (OCP Microscaling Formats 1.0, section 5.3.4).
MXINT8_STEP = 1 / 64
DTYPES = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "mxfp4": ml_dtypes.float4_e2m1fn,
}


def levels_of(format: WeightFormat) -> NDArray[np.float32]:
    """Give the levels of a format; those of a codebook are found for each layer. Raises ValueError for it."""
    match format:
        case Integer(bits):
            if bits > 8:
                raise ValueError(f"weights are stored as integers of 2 to 8 bits, got {bits}")
            limit = 2 ** (bits - 1) - 1
            return np.arange(-limit, limit + 1, dtype=np.float32)
        case Ternary():
            return np.array([-1, 0, 1], np.float32)
        case Binary():
            return np.array([-1, 1], np.float32)
        case PowerOfTwo(bits):
            powers = 2.0 ** np.arange(2 ** (bits - 1) - 1)
            return np.concatenate([-powers[::-1], [0], powers]).astype(np.float32)
        case Float(name):
            return _finite(name)
        case Microscaling("mxfp4"):
            return _finite("mxfp4")
        case Microscaling():
            return np.arange(-127, 128, dtype=np.float32) * np.float32(MXINT8_STEP)
        case Codebook():
            raise ValueError("the levels of a codebook are found by k-means")
        case _:
            assert_never(format)


@cache
def _finite(name: str) -> NDArray[np.float32]:
    dtype = np.dtype(DTYPES[name])
    if dtype.itemsize == 2:
        patterns = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    else:
        patterns = np.arange(16 if name == "mxfp4" else 256, dtype=np.uint8).view(dtype)
    with np.errstate(invalid="ignore"):
        numbers = patterns.astype(np.float32)
    return np.unique(numbers[np.isfinite(numbers)] + np.float32(0))
