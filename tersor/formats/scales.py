"""Scales: what the levels of a format are multiplied by, so that they meet the weights of a group.

weights [K, groups, group], levels   ->   scales float32 [K, groups]
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tersor.formats.levels import LARGEST_CODE

Method = Literal["nearest", "mse"]
Weights = NDArray[np.float32]  # [K, groups, group], filled up with zeros
Importance = NDArray[np.float64]  # [groups, group], zero where the weights are filled up

FACTORS = np.linspace(1.0, 0.5, 41)
"""Fractions of the largest magnitude tried as a range by "mse"; 1.0 first, so that it wins ties."""
FACTORS_OF_FEW = np.linspace(1.0, 0.25, 61)
"""The same for 16 levels or fewer, which clip more."""
CHANNEL_FACTORS = np.linspace(1.0, 0.5, 17)
"""Fractions tried as the largest scale of a channel when its groups have small integers."""


def to_largest(weights: Weights, levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the scales that bring the largest level to each group's largest magnitude."""
    return usable(np.abs(weights).max(axis=2) / levels[-1])


def usable(scales: NDArray[np.floating]) -> NDArray[np.float32]:
    """Replace scales below the normal numbers, which have lost their digits, by 1: such weights are zero."""
    scales = scales.astype(np.float32)
    return np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)


def least_squares(
    weights: Weights, levels: NDArray[np.float32], importance: Importance
) -> NDArray[np.float32]:
    """Give the scales with the least weighted squared error: of two or three levels exactly."""
    if len(levels) == 2:
        return _mean_magnitudes(weights, importance)
    if len(levels) == 3:
        return ternary(weights, importance)
    largest = to_largest(weights, levels)
    best, error = largest, squared_errors(weights, levels, largest, importance)
    for factor in (FACTORS_OF_FEW if len(levels) <= 16 else FACTORS)[1:]:
        scales = usable(largest * np.float32(factor))
        best, error = _better(best, error, scales, squared_errors(weights, levels, scales, importance))
    scales = _refit(weights, levels, best, importance)
    return _better(best, error, scales, squared_errors(weights, levels, scales, importance))[0]


def ternary(weights: Weights, importance: Importance) -> NDArray[np.float32]:
    """Give the scale a of -a, 0, a with the least weighted squared error.

    Some number of the largest magnitudes become a, their mean: all numbers are tried. (Li and Liu, Ternary
    Weight Networks, 2016, equation 6, whose threshold of 0.7 mean magnitudes only approximates that number.)
    """
    magnitudes = np.abs(weights).astype(np.float64)
    order = np.argsort(-magnitudes, axis=2, kind="stable")
    important = np.take_along_axis(np.broadcast_to(importance, magnitudes.shape), order, axis=2)
    sums = np.cumsum(np.take_along_axis(magnitudes, order, axis=2) * important, axis=2)
    totals = np.cumsum(important, axis=2)
    means = sums / np.where(totals > 0, totals, 1)
    most = np.argmax(sums * means, axis=2, keepdims=True)
    return usable(np.take_along_axis(means, most, axis=2)[..., 0])


def largest_integer(levels: NDArray[np.float32]) -> int:
    """Give the largest integer whose product with every level is an int8 code."""
    return LARGEST_CODE // int(levels[-1])


def in_small_integers(
    weights: Weights, levels: NDArray[np.float32], scales: NDArray[np.float32], importance: Importance
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Write each channel's scales as one float32 times small integers: scale [K], integers [K, groups].

    A level times the integer stays within an int8 code, as in VS-Quant (Dai et al., MLSys 2021), section 4.
    Scales of the channel are tried for the least weighted squared error.
    """
    most = largest_integer(levels)
    # A group of zeros has no say in how large the scale is.
    wanted = np.where(np.any(weights != 0, axis=2), scales, 0)
    largest = wanted.max(axis=1)
    best = np.full(len(weights), np.inf)
    scale, integers = np.ones(len(weights), np.float32), np.ones(scales.shape, np.int8)
    for factor in CHANNEL_FACTORS:
        tried = usable(largest / np.float32(most * factor))
        found, error = _nearest_integers(weights, levels, wanted, tried, most, importance)
        better = error < best
        best = np.where(better, error, best)
        scale, integers = np.where(better, tried, scale), np.where(better[:, None], found, integers)
    return scale, integers


def _nearest_integers(
    weights: Weights,
    levels: NDArray[np.float32],
    wanted: NDArray[np.float32],
    scale: NDArray[np.float32],
    most: int,
    importance: Importance,
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    below = np.clip(np.floor(wanted / scale[:, None]), 1, most)
    above = np.clip(below + 1, 1, most)
    errors = [
        squared_errors(weights, levels, each.astype(np.float32) * scale[:, None], importance)
        for each in (below, above)
    ]
    integers = np.where(errors[1] < errors[0], above, below).astype(np.int8)
    return integers, np.minimum(*errors).sum(axis=1)


def squared_errors(
    weights: Weights, levels: NDArray[np.float32], scales: NDArray[np.float32], importance: Importance
) -> NDArray[np.float64]:
    """Give the weighted squared error of rounding each group to its levels, [K, groups]."""
    rounded = levels[nearest_level(levels, weights / scales[..., None])] * scales[..., None]
    return np.einsum("kgi,gi->kg", np.square(weights - rounded, dtype=np.float64), importance)


def nearest_level(levels: NDArray[np.float32], numbers: NDArray[np.floating]) -> NDArray[np.intp]:
    """Give the index of the level nearest to each number; between two integers the even one is taken."""
    largest = (len(levels) - 1) // 2
    if len(levels) % 2 and levels[-1] == largest and levels[0] == -largest:
        return (np.clip(np.rint(numbers), -largest, largest) + largest).astype(np.intp)
    return np.searchsorted((levels[1:].astype(np.float64) + levels[:-1]) / 2, numbers, side="right")


def _mean_magnitudes(weights: Weights, importance: Importance) -> NDArray[np.float32]:
    """Give the best scale of two signs (Rastegari et al., XNOR-Net, 2016, equation 6)."""
    totals = np.einsum("kgi,gi->kg", np.abs(weights).astype(np.float64), importance)
    counts = importance.sum(axis=1)
    means = totals / np.where(counts > 0, counts, 1)
    return np.maximum(means, np.finfo(np.float32).tiny).astype(np.float32)  # zeros stay next to zero


def _refit(
    weights: Weights, levels: NDArray[np.float32], scales: NDArray[np.float32], importance: Importance
) -> NDArray[np.float32]:
    """Give the best scales for the levels that the weights have now."""
    taken = levels[nearest_level(levels, weights / scales[..., None])].astype(np.float64)
    squares = np.einsum("kgi,gi->kg", taken**2, importance)
    products = np.einsum("kgi,gi->kg", taken * weights, importance)
    return usable(np.where(squares > 0, products / np.where(squares > 0, squares, 1), scales))


def _better(
    best: NDArray[np.float32],
    error: NDArray[np.float64],
    scales: NDArray[np.float32],
    errors: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    return np.where(errors < error, scales, best), np.minimum(errors, error)
