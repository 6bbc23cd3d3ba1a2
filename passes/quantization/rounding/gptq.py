"""GPTQ: round column by column, and let the columns that are left make up for the error.

w[:, j]  ->  q[:, j],      w[:, j+1:]  -=  (w[:, j] - q[:, j]) / U[j, j] * U[j, j+1:],      U^T U = G^-1

(Frantar, Ashkboos, Hoefler, Alistarh: GPTQ, ICLR 2023, algorithm 1, with the columns of the largest inputs
first. A convolution's groups are as many problems of their own, solved side by side.)
"""

import numpy as np
from numpy.typing import NDArray

from tersor.formats.grids import Grid
from tersor.passes.memo import remembered
from tersor.passes.quantization.rounding.objective import Floats, Matrix, Objective

BLOCK = 128
"""Columns whose errors are gathered before they reach the columns behind them."""


def gptq(matrix: Matrix, grid: Grid, objective: Objective, kept: NDArray[np.bool_] | None = None) -> Matrix:
    """Give numbers of the grid for a canonical matrix [K, n] with little error of the output.

    Where `kept` is false, the result is zero.
    """
    columns = matrix.shape[1]
    diagonal = np.einsum("gnn->n", objective.products)
    order = np.argsort(-diagonal, kind="stable")
    factor = _inverse_factor(objective.products[:, order][:, :, order])
    left = objective.grouped(matrix.astype(np.float64)[:, order])
    result = np.empty(matrix.shape, np.float32)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.empty((*left.shape[:2], stop - start))
        for j in range(start, stop):
            column = slice(order[j], order[j] + 1)
            wanted = left[:, :, j].reshape(-1, 1)
            found = grid.nearest(wanted.astype(np.float32), column)
            if kept is not None:
                found = np.where(kept[:, column], found, np.float32(0))
            result[:, column] = found
            errors[:, :, j - start] = (wanted - found).reshape(left.shape[:2]) / factor[:, None, j, j]
            left[:, :, j + 1 : stop] -= errors[:, :, j - start, None] * factor[:, None, j, j + 1 : stop]
        left[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return result


def _inverse_factor(products: Floats) -> Floats:
    """Give the upper triangular U with U^T U = products^-1; a layer is rounded to several grids with it."""
    return remembered(lambda: _inverted(products), products.nbytes, "inverse factor", products)


def _inverted(products: Floats) -> Floats:
    return np.linalg.cholesky(np.linalg.inv(products)).transpose(0, 2, 1).astype(np.float64)
