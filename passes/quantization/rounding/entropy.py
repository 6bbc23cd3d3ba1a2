"""Entropy: round to numbers that are cheap to code, where the layer's output can bear it.

minimize   E[((q - w) x)^2]  +  price * sum of -log2 p(level of q)

where p is how often each level is chosen: zeros and few frequent levels come about by themselves, as many as
the price of a bit says. Column by column as in `gptq`, whose columns behind make up for the error, so that a
number costs the error that is left after that; then the frequencies are counted again, and the entries of a
codebook are fitted to the output, which is linear in them. (Chou, Lookabaugh, Gray: Entropy-constrained
vector quantization, IEEE Trans. ASSP 1989; for networks Wiedemann et al., DeepCABAC, IEEE JSTSP 2020.)
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tersor.formats.grids import Grid
from tersor.passes.quantization.rounding.objective import Floats, Matrix, Objective
from tersor.weight_format import Codebook

SWEEPS = 4
BLOCK = 128  # columns whose errors are gathered before they reach the columns behind them

Indices = NDArray[np.intp]


def even(grid: Grid, matrix: Matrix) -> Grid:
    """Give a codebook entries in even steps, one of them 0, up to the largest weight of a matrix [K, n]."""
    assert isinstance(grid.format, Codebook)
    steps = (1 << grid.format.bits - 1) - 1
    top = float(np.abs(matrix).max(initial=0.0))
    levels = np.arange(-steps, steps + 1) * (top / steps)
    return replace(grid, levels=np.unique(levels.astype(np.float32)))


def entropy_constrained(
    matrix: Matrix, grid: Grid, objective: Objective, rate: float, kept: NDArray[np.bool_] | None = None
) -> tuple[Matrix, Grid]:
    """Give numbers of the grid for a canonical matrix [K, n], and the grid with its entries fitted.

    A bit has to lower the layer's noise by `rate` times the power of its output. Where `kept` is false, the
    result is zero, which the grid must have.
    """
    price = rate * float(objective.errors(matrix).sum())
    bits = _expected(matrix, grid)
    best, best_grid, least = matrix, grid, np.inf
    for _ in range(SWEEPS):
        indices = _assigned(matrix, grid, objective, price * bits, kept)
        grid, indices = _fitted(matrix, grid, objective, indices)
        result = grid.numbers(indices)
        bits = _bits(indices, len(grid.levels))
        cost = float(objective.errors(result - matrix).sum()) + price * float(bits[indices].sum())
        if cost < least:
            best, best_grid, least = result, grid, cost
    return best, best_grid


def _expected(matrix: Matrix, grid: Grid) -> Floats:
    """Give what each level may cost in bits: of a Laplacian, with its peak at 0 whatever the sample's is."""
    sizes = np.abs(grid.levels.astype(np.float64))
    spread = float(sizes[grid.indices(matrix)].mean())
    nats = sizes / spread if spread > 0 else np.zeros(len(sizes))
    return (nats + np.log(np.exp(-nats).sum())) / np.log(2)


def _bits(indices: Indices, levels: int) -> Floats:
    """Give what each level costs in bits, by how often it was chosen; one never chosen as if half a time."""
    counts = np.maximum(np.bincount(indices.reshape(-1), minlength=levels), 0.5)
    return -np.log2(counts / counts.sum())


def _assigned(
    matrix: Matrix, grid: Grid, objective: Objective, costs: Floats, kept: NDArray[np.bool_] | None
) -> Indices:
    columns = matrix.shape[1]
    order = np.argsort(-objective.importance, kind="stable")
    products = objective.products[:, order][:, :, order]
    factor = np.linalg.cholesky(np.linalg.inv(products)).transpose(0, 2, 1)
    left = objective.grouped(matrix.astype(np.float64)[:, order])
    rows = np.arange(len(matrix))
    every = np.broadcast_to(np.arange(len(grid.levels)), (len(matrix), len(grid.levels)))
    zero = int(np.argmin(np.abs(grid.levels)))
    indices = np.zeros(matrix.shape, np.intp)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.empty((*left.shape[:2], stop - start))
        for j in range(start, stop):
            column = slice(order[j], order[j] + 1)
            wanted = left[:, :, j].reshape(-1)
            pivot = np.repeat(factor[:, j, j], left.shape[1])
            numbers = _candidates(grid, every, column)
            noise = ((wanted[:, None] - numbers) / pivot[:, None]) ** 2
            chosen = (noise + costs).argmin(axis=1)
            if kept is not None:
                chosen = np.where(kept[:, order[j]], chosen, zero)
            indices[:, order[j]] = chosen
            errors[:, :, j - start] = ((wanted - numbers[rows, chosen]) / pivot).reshape(left.shape[:2])
            left[:, :, j + 1 : stop] -= errors[:, :, j - start, None] * factor[:, None, j, j + 1 : stop]
        left[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return indices


def _candidates(grid: Grid, every: Indices, column: slice) -> Floats:
    """Give all numbers that a weight of each row can be in a column, [K, levels]."""
    numbers = [grid.numbers(every[:, level : level + 1], column) for level in range(every.shape[1])]
    return np.concatenate(numbers, axis=1).astype(np.float64)


def _fitted(matrix: Matrix, grid: Grid, objective: Objective, indices: Indices) -> tuple[Grid, Indices]:
    """Fit the float entries of a codebook to the layer's output; an entry 0 stays 0."""
    if not isinstance(grid.format, Codebook) or grid.is_integer:
        return grid, indices
    table = grid.levels.astype(np.float64)
    counts = np.bincount(indices.reshape(-1), minlength=len(table))
    free = np.flatnonzero((counts > 0) & (table != 0))
    if not len(free):
        return grid, indices
    wanted = objective.grouped(matrix.astype(np.float64))
    places = objective.grouped(indices)
    normal, right = np.zeros((len(free), len(free))), np.zeros(len(free))
    for products, own, place in zip(objective.products, wanted, places, strict=True):
        masks = np.stack([(place == entry).astype(np.float64) for entry in free])
        weighed = (masks @ products).reshape(len(free), -1)
        normal += weighed @ masks.reshape(len(free), -1).T
        right += weighed @ own.reshape(-1)
    ridge = 1e-6 * float(np.trace(normal)) / len(free)
    table[free] += np.linalg.solve(normal + ridge * np.eye(len(free)), right - normal @ table[free])
    # Ascending, as those of a grid are; entries that have become equal are one.
    levels, places = np.unique(table.astype(np.float32), return_inverse=True)
    return replace(grid, levels=levels), places.reshape(-1)[indices]
