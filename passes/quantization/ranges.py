"""Choose the range of an activation from its statistics, and the integers that the range stands for.

TensorStatistics   ->   (lo, hi), lo <= 0 <= hi   ->   (scale, zero point)
"""

import math
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from tersor.arithmetic import SYMMETRIC_ZERO
from tersor.statistics import BINS, TensorStatistics

Method = Literal["minmax", "percentile", "mse", "kl"]

PERCENTILE = 99.99
SHRINK_FACTORS = np.geomspace(1.0, 0.02, 97)
"""Fractions of a range tried by "mse"; 1.0 first, so that it wins ties."""
KL_STEP = 8  # bins between two thresholds tried: 1/256 of the histogram
KL_SMOOTHING = 1e-4


def ranges(statistics: TensorStatistics, method: Method, bits: int = 8) -> tuple[float, float]:
    """The range (lo, hi) to quantize a tensor's values to, lo <= 0 <= hi, within the values seen.

    - "minmax": all values seen.
    - "percentile": without the (100 - PERCENTILE) / 2 percent of the values at each end.
    - "mse": the least expected squared error of clipping and rounding to `bits` (unsigned affine).
    - "kl": the least information lost (Migacz, GTC 2017: 8-bit Inference with TensorRT); cuts long tails.
    """
    lo, hi = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    match method:
        case "minmax":
            pass
        case "percentile":
            lo, hi = _percentile(statistics, lo, hi)
        case "mse":
            lo, hi = _least_squares(statistics, lo, hi, bits)
        case "kl":
            lo, hi = _least_divergence(statistics, lo, hi, bits)
        case _:
            assert_never(method)
    return lo, hi


def affine(lo: float, hi: float, bits: int = 8) -> tuple[np.float32, int]:
    """The scale (> 0) and zero point of unsigned codes 0 .. 2^bits - 1 over a range; zero is exact.

    The range is widened to hold zero. One too narrow for a normal float32 scale, as an all-zero
    tensor's, gets scale 1. Rounding the zero point moves the range that the codes cover by up to half a
    step.
    """
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    levels = 2**bits - 1
    scale = np.float32((hi - lo) / levels)
    if not np.isfinite(scale):
        raise ValueError(f"a scale needs a finite range, got {lo} to {hi}")
    if scale < np.finfo(np.float32).tiny:
        return np.float32(1), 0
    return scale, min(max(round(-lo / float(scale)), 0), levels)


def symmetric(lo: float, hi: float) -> tuple[np.float32, int]:
    """Give the scale and the zero point, 128, of the uint8 grid whose codes reach equally far both ways."""
    scale, _ = affine(0.0, 255 / 127 * max(-lo, hi, 0.0))
    return scale, SYMMETRIC_ZERO


def _percentile(statistics: TensorStatistics, lo: float, hi: float) -> tuple[float, float]:
    """Values are taken to lie evenly within a bin."""
    cumulative = np.concatenate([[0], np.cumsum(statistics.histogram)])
    edges = statistics.edges
    tail = (1 - PERCENTILE / 100) / 2 * cumulative[-1]
    # Interpolating from either side of a run of empty bins needs the run's inner edge.
    below = np.searchsorted(cumulative, tail, side="right") - 1
    above = np.searchsorted(cumulative, cumulative[-1] - tail, side="left")
    width = edges[1] - edges[0]
    low = edges[below] + width * (tail - cumulative[below]) / statistics.histogram[below]
    high = (
        edges[above] - width * (cumulative[above] - cumulative[-1] + tail) / statistics.histogram[above - 1]
    )
    return min(max(float(low), lo), 0.0), max(min(float(high), hi), 0.0)


def _least_squares(statistics: TensorStatistics, lo: float, hi: float, bits: int) -> tuple[float, float]:
    """Shrink both ends by one factor, then each end by its own."""

    def best(los: NDArray[np.float64], his: NDArray[np.float64]) -> tuple[float, float]:
        least = np.argmin(_expected_squared_error(statistics, los, his, bits))
        return float(los[least]), float(his[least])

    full_lo, full_hi = lo * SHRINK_FACTORS, hi * SHRINK_FACTORS
    lo, hi = best(full_lo, full_hi)
    if not lo < 0 < hi:
        return lo, hi
    for _ in range(2):  # a third round moves nothing that can be seen
        lo, hi = best(np.full_like(full_hi, lo), full_hi)
        lo, hi = best(full_lo, np.full_like(full_lo, hi))
    return lo, hi


def _expected_squared_error(
    statistics: TensorStatistics, los: NDArray[np.float64], his: NDArray[np.float64], bits: int
) -> NDArray[np.float64]:
    """The mean squared error of quantizing to each range, [ranges], with values even within a bin.

    The integral of (x - quantized(x))^2 over a bin is exact, so steps finer than the bins gain nothing by it.
    """
    filled = np.flatnonzero(statistics.histogram)
    first, end = filled[0], filled[-1] + 1
    density = statistics.histogram[first:end] / (
        statistics.histogram.sum() * (statistics.edges[1] - statistics.lo)
    )
    parameters = [affine(lo, hi, bits) for lo, hi in zip(los, his, strict=True)]
    scale = np.array([[float(scale)] for scale, _ in parameters])
    zero_point = np.array([[zero_point] for _, zero_point in parameters])
    # The antiderivative at the edges, [ranges, edges]: each whole step before an edge adds 1/12 of its cube.
    code = statistics.edges[first : end + 1] / scale + zero_point
    nearest = np.clip(np.rint(code), 0, 2**bits - 1)
    distance = code - nearest
    integral = scale**3 * (nearest / 12 + distance * distance * distance / 3)
    return np.diff(integral, axis=1) @ density


def _least_divergence(statistics: TensorStatistics, lo: float, hi: float, bits: int) -> tuple[float, float]:
    """Saturate magnitudes at the threshold with the least Kullback-Leibler divergence.

    Migacz's search over |x| in 128 levels, with 2^bits levels over what the threshold leaves of the range. No
    threshold leaves fewer bins than levels, so an extreme outlier keeps up to a quarter of its range.
    """
    levels = 2**bits
    counts = statistics.histogram.astype(np.float64)
    width = (statistics.hi - statistics.lo) / BINS
    zero = min(round(-statistics.lo / width), BINS - 1)  # the bin that begins at zero
    # Zero is exact in every range. Left in, the many zeros behind a ReLU would be spread over their
    # whole level and drown all else.
    counts[zero] = 0
    filled = np.flatnonzero(counts)
    if not filled.size:
        return lo, hi
    first, end = min(int(filled[0]), zero), max(int(filled[-1]) + 1, zero)
    furthest = max(zero - first, end - zero)
    least, threshold = math.inf, furthest
    for candidate in range(furthest, 0, -KL_STEP):
        left, right = max(zero - candidate, first), min(zero + candidate, end)
        if right - left < levels:
            break
        divergence = _divergence(counts, left, right, levels)
        if divergence < least:
            least, threshold = divergence, candidate
    return max(lo, -threshold * width), min(hi, threshold * width)


def _divergence(counts: NDArray[np.float64], left: int, right: int, levels: int) -> float:
    """KL(P, Q): P the bins left .. right, what lies outside added to the ends; Q they in few levels."""
    inside = counts[left:right]
    clipped = inside.copy()
    clipped[0] += counts[:left].sum()
    clipped[-1] += counts[right:].sum()
    occupied = clipped > 0
    level = np.arange(inside.size) * levels // inside.size
    # A level's count is spread evenly over its occupied bins.
    spread = np.bincount(level, inside, levels) / np.maximum(np.bincount(level, occupied, levels), 1)
    p = clipped[occupied] / clipped.sum()
    q = spread[level][occupied] / max(inside.sum(), 1)
    # An end that holds nothing but what was clipped has q = 0: costly, but not infinitely so.
    q = (1 - KL_SMOOTHING) * q + KL_SMOOTHING / q.size
    return float(np.sum(p * np.log(p / q)))
