"""Channel steps: what a depthwise layer reads has a step for each channel.

    conv2d(x, w)  ->  conv2d(dequantize(quantize(x / steps)), w * steps)

A result of a depthwise layer is a sum over a single channel, so the channel's step may stand in the weight.
One step for all would drown the narrow channels, whose weights are large to make up for it. (The weights'
side of cross-layer equalization, Nagel et al., Data-Free Quantization through Weight Equalization and Bias
Correction, ICCV 2019, sec. 4.1; as the division is an operator of its own, x may come from any activation.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = 255


def channel_steps(
    low: NDArray[np.float64], high: NDArray[np.float64], gain: NDArray[np.float64]
) -> tuple[NDArray[np.float32], int]:
    """Give the steps, float32 [channels] > 0, and the zero point of uint8 codes that all channels share.

    `low` and `high` are each channel's range, low <= 0 <= high, and `gain` the power that the layer gives to
    a unit of a channel's rounding noise; the zero point is the one with the least noise after the layer.
    """
    zero_points = np.arange(LEVELS + 1, dtype=np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # no codes on a side where there may be no values
        below = np.where(low < 0, -low / zero_points, 0.0)
        above = np.where(high > 0, high / (LEVELS - zero_points), 0.0)
    steps = np.maximum(below, above)
    with np.errstate(invalid="ignore"):
        noise = np.where(gain > 0, np.square(steps) * gain, 0.0).sum(axis=1)
    usable = np.isfinite(steps).all(axis=1)
    zero_point = int(np.argmin(np.where(usable, noise, np.inf)))
    chosen = steps[zero_point].astype(np.float32)
    # A step below the normal numbers has lost its digits: such a channel is zero for all that follows.
    return np.where(chosen < np.finfo(np.float32).tiny, np.float32(1), chosen), zero_point


def times_steps(weight: NDArray[np.float32], steps: Sequence[float]) -> NDArray[np.float32]:
    """Multiply a weight, [C, K] or [K, C / groups, R, S], by the steps of its input channels, C or none."""
    if not steps:
        return weight
    factors = np.array(steps, np.float32)
    if weight.ndim == 2:
        return weight * factors[:, None]
    groups = len(factors) // weight.shape[1]
    per_output = np.repeat(factors.reshape(groups, -1), len(weight) // groups, axis=0)
    return weight * per_output[:, :, None, None]


def by_input(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give a weight, [C, K] or [K, C, R, S], as [C, K, taps]."""
    if weight.ndim == 2:
        return weight[:, :, None]
    return weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], weight.shape[0], -1)
