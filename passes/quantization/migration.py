"""Migration: the step of each input channel goes into the weight that meets it.

    matmul(x, w)  ->  matmul(dequantize(quantize(x / s)), s * w)

Where channels differ much in range, one step for all drowns the narrow ones; where their weights differ as
well, moving all of the difference would drown those. How much is moved is the power that leaves least noise
behind the layer (SmoothQuant, Xiao et al., ICML 2023, eq. 4; there the power is given).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weight = NDArray[np.float32]
Floats = NDArray[np.float64]

POWERS = (0.25, 0.5, 0.75, 1.0)
WORTH = 0.5  # of the noise may be left at most: the division is not free
INPUT_LEVELS, WEIGHT_LEVELS = 255, 127


@dataclass(frozen=True, eq=False)
class Channels:
    """What is known of a tensor's channels, float64 [C]: extremes, low <= 0 <= high, and variances."""

    low: Floats
    high: Floats
    variance: Floats


def migration(
    channels: Channels, weights: list[Weight], unmoved: tuple[float, float]
) -> NDArray[np.float32] | None:
    """Choose the factors s > 0, float32 [C], or None where one step for all channels is as good.

    `weights` are those that read the tensor, each [C, K, taps]; `unmoved` is the range it is else rounded in.
    """
    wide = [weight.astype(np.float64) for weight in weights]
    reach = np.maximum(-channels.low, channels.high)
    largest = np.max([np.abs(weight).max(axis=(1, 2)) for weight in wide], axis=0)
    if not (reach > 0).any() or not (largest > 0).any():
        return None
    # A channel without values, or without weights, takes part in no sum: it goes with the others' middle.
    reach = np.where(reach > 0, reach, np.median(reach[reach > 0]))
    largest = np.where(largest > 0, largest, np.median(largest[largest > 0]))
    one = np.ones_like(reach)
    least = WORTH * _noise(one, channels, wide, unmoved[1] - unmoved[0])
    chosen = None
    for power in POWERS:
        factors = reach**power / largest ** (1 - power)
        factors /= np.exp(np.log(factors).mean())
        width = float((channels.high / factors).max() - (channels.low / factors).min())
        noise = _noise(factors, channels, wide, width)
        if noise < least:
            least, chosen = noise, factors.astype(np.float32)
    return chosen


def _noise(factors: Floats, channels: Channels, weights: list[Floats], width: float) -> float:
    """The power that rounding adds to the sums: of inputs to levels within `width`, and of weights."""
    variance = (channels.variance / np.square(factors)).sum()
    noise = 0.0
    for weight in weights:
        moved = weight * factors[:, None, None]
        steps = np.abs(moved).max(axis=(0, 2)) / WEIGHT_LEVELS
        noise += (width / INPUT_LEVELS) ** 2 * float(np.square(moved).sum())
        noise += weight.shape[2] * float(np.square(steps).sum()) * float(variance)
    return noise / 12
