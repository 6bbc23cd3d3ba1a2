"""Quantize weights: symmetric signed integers with one scale per output channel.

w   ->   codes * scale[channel],   |codes| <= 2^(bits - 1) - 1
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError

SHRINK_FACTORS = np.linspace(1.0, 0.5, 41)
"""Fractions of the largest magnitude tried as a channel's range by "mse"; 1.0 first, so that it wins ties."""


def quantize_weight(
    weight: NDArray[np.float32], axis: int, bits: int = 8, method: Literal["minmax", "mse"] = "minmax"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a weight to codes (int8, the weight's shape) and scales (float32, [weight.shape[axis]]).

    `axis` is the output channels' axis. "minmax" maps a channel's largest magnitude to the largest code,
    "mse" takes the range with the least squared error. Rounds half to even. A channel of zeros gets
    scale 1.

    Raises UserError for NaN and infinite weights.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"codes are int8: bits must be 2 to 8, got {bits}")
    if not np.isfinite(weight).all():
        raise UserError("a weight with NaN or infinite values cannot be quantized")
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
    largest = np.abs(rows).max(axis=1)
    factors = SHRINK_FACTORS if method == "mse" else SHRINK_FACTORS[:1]
    codes, scale = _round(rows, largest, bits)
    error = _squared_error(rows, codes, scale)
    for factor in factors[1:]:
        shrunk_codes, shrunk_scale = _round(rows, largest * np.float32(factor), bits)
        shrunk_error = _squared_error(rows, shrunk_codes, shrunk_scale)
        better = shrunk_error < error
        codes = np.where(better[:, None], shrunk_codes, codes)
        scale = np.where(better, shrunk_scale, scale)
        error = np.where(better, shrunk_error, error)
    moved_shape = np.moveaxis(weight, axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(codes.reshape(moved_shape), 0, axis)), scale


def dequantize_weight(codes: NDArray[np.int8], scale: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The float32 weight that codes and scales stand for."""
    shape = [1] * codes.ndim
    shape[axis] = -1
    return codes.astype(np.float32) * scale.reshape(shape)


def _round(
    rows: NDArray[np.float32], largest: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    limit = 2 ** (bits - 1) - 1
    scale = largest / np.float32(limit)
    # A scale below the normal numbers has lost its digits: such a channel is zero for all that follows.
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    codes = np.clip(np.rint(rows / scale[:, None]), -limit, limit)
    return codes.astype(np.int8), scale


def _squared_error(
    rows: NDArray[np.float32], codes: NDArray[np.int8], scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    return np.square(rows - codes * scale[:, None], dtype=np.float64).sum(axis=1)
