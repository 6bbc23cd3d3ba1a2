"""K-means in one dimension, exact in each step: the sorted numbers, and sums over them up to each place."""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 100


def kmeans(
    numbers: NDArray[np.floating], weights: NDArray[np.floating] | None, count: int, with_zero: bool = False
) -> NDArray[np.float64]:
    """Give up to `count` centres, ascending, which locally minimise the weighted squared distance.

    Lloyd's algorithm from centres at the quantiles and from evenly spaced ones, whichever ends better (evenly
    spaced ones serve the few large weights: Han et al., Deep Compression, ICLR 2016, section 3.2).
    `with_zero` keeps one centre at exactly zero. Nothing is drawn at random.
    """
    order = np.argsort(numbers, kind="stable")
    x = numbers[order].astype(np.float64)
    w = np.ones(len(x)) if weights is None else weights[order].astype(np.float64)
    sums = _Sums(x, w)
    quantiles = x[np.linspace(0, len(x) - 1, 2 * count + 1).astype(np.int64)[1::2]]
    edges = np.linspace(x[0], x[-1], 2 * count + 1)[1::2]
    found = [_lloyd(sums, _start(start, with_zero), with_zero) for start in (quantiles, edges)]
    return min(found, key=sums.error)


class _Sums:
    def __init__(self, x: NDArray[np.float64], w: NDArray[np.float64]) -> None:
        self.x = x
        self.totals = np.array([np.concatenate([[0.0], np.cumsum(each)]) for each in (w, w * x, w * x * x)])

    def over_cells(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of w, w x and w x^2 over what is nearest to each centre, [3, centres]."""
        borders = np.searchsorted(self.x, (centres[1:] + centres[:-1]) / 2)
        return np.diff(self.totals[:, np.concatenate([[0], borders, [len(self.x)]])], axis=1)

    def error(self, centres: NDArray[np.float64]) -> float:
        count, first, second = self.over_cells(centres)
        return float((second - 2 * centres * first + centres**2 * count).sum())


def _start(centres: NDArray[np.float64], with_zero: bool) -> NDArray[np.float64]:
    if with_zero:
        centres = centres.copy()
        centres[np.argmin(np.abs(centres))] = 0.0
    return np.unique(centres)


def _lloyd(sums: _Sums, centres: NDArray[np.float64], with_zero: bool) -> NDArray[np.float64]:
    fixed = (centres == 0.0) & with_zero
    for _ in range(ROUNDS):
        count, first, _ = sums.over_cells(centres)
        means = np.where((count > 0) & ~fixed, first / np.where(count > 0, count, 1), centres)
        if np.array_equal(means, centres):
            break
        centres = means
    return centres
