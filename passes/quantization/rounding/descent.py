"""Descent: from a rounded weight to a better one, changing one column at a time.

q[:, j]  ->  the number of the grid nearest to  q[:, j] + ((w - q) G)[:, j] / G[j, j]

That is the best number for this column while the others stay, so that no step makes the error larger. It is
the objective of learned rounding (Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization,
ICML 2020, eq. 20), on all numbers of the grid instead of the two next to the weight, without a relaxation.
"""

import numpy as np
from numpy.typing import NDArray

from tersor.formats.grids import Grid
from tersor.passes.quantization.rounding.objective import Matrix, Objective

BLOCK = 64


def descend(
    matrix: Matrix,
    start: Matrix,
    grid: Grid,
    objective: Objective,
    sweeps: int,
    kept: NDArray[np.bool_] | None = None,
) -> Matrix:
    """Improve the numbers `start` [K, n], on the grid, for a canonical matrix [K, n].

    Where `kept` is false, the result is zero. Ends when a sweep over all columns changes nothing, after
    `sweeps` at the latest.
    """
    products, columns = objective.products, matrix.shape[1]
    result = start.copy()
    grouped = objective.grouped(result)  # a view: the rows of each group
    pull = (objective.grouped(matrix.astype(np.float64)) - grouped) @ products  # (w - q) G
    for _ in range(sweeps):
        changed = False
        for begin in range(0, columns, BLOCK):
            end = min(begin + BLOCK, columns)
            before = grouped[:, :, begin:end].astype(np.float64)
            local = pull[:, :, begin:end].copy()
            for j in range(begin, end):
                now = grouped[:, :, j]
                wanted = now + local[:, :, j - begin] / products[:, None, j, j]
                found = grid.nearest(wanted.reshape(-1, 1).astype(np.float32), slice(j, j + 1))
                if kept is not None:
                    found = np.where(kept[:, j : j + 1], found, np.float32(0))
                step = found.reshape(now.shape).astype(np.float64) - now
                if step.any():
                    local -= step[:, :, None] * products[:, None, j, begin:end]
                    grouped[:, :, j] = found.reshape(now.shape)
            moved = grouped[:, :, begin:end] - before
            if moved.any():
                changed = True
                pull -= moved @ products[:, begin:end, :]
        if not changed:
            break
    return result
