"""Repair: the weights that are left take over what the dropped ones gave to the output.

minimize  E |w x - v x|^2  over v with the zeros of the mask

Of each row, with S the columns that stay, D those that go and A the moments of the inputs x,

A_SS (v_S - w_S) = A_SD w_D

so a row is one small system of equations; rows of equal masks, as those of a block, share its factorization.
With A the covariance the bias takes up the mean, b + (w - v) E[x]; without a bias A is the second moment.
(The regression of layer-wise pruning: He, Zhang, Sun, ICCV 2017, eq. 2, here with a mask for each row.)
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

RIDGE = 1e-3
"""Of the mean of the diagonal: inputs that calibration saw little of leave the weights as they were."""

Floats = NDArray[np.float64]


def repair(matrix: Floats, mask: NDArray[np.bool_], moments: Floats) -> Floats:
    """Give the weights [G * K, n] in the mask that reproduce the outputs of `matrix` on inputs of `moments`.

    `moments` [G, n, n] are of the inputs of each group: the covariance or the second moment.
    """
    groups = len(moments)
    fitted = np.where(mask, matrix, 0.0)
    rows = len(matrix) // groups
    for group, moment in enumerate(moments):
        part = slice(group * rows, (group + 1) * rows)
        ridge = RIDGE * float(np.trace(moment)) / len(moment)
        if ridge > 0:  # else the inputs never vary, and nothing is lost
            fitted[part] = _fit(matrix[part], mask[part], moment, ridge)
    return fitted


def bias_change(matrix: Floats, fitted: Floats, mean: Floats) -> Floats:
    """What the bias takes up, [G * K], so that outputs keep their mean; `mean` [G, n] is of the inputs."""
    rows = len(matrix) // len(mean)
    lost = (matrix - fitted).reshape(len(mean), rows, -1)
    return np.einsum("gkn,gn->gk", lost, mean).reshape(-1)


def _fit(matrix: Floats, mask: NDArray[np.bool_], moment: Floats, ridge: float) -> Floats:
    fitted = np.where(mask, matrix, 0.0)
    patterns, which = np.unique(mask, axis=0, return_inverse=True)
    which = which.reshape(-1)
    alike = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    for pattern, rows in zip(patterns, alike, strict=True):
        kept, dropped = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        if not (len(kept) and len(dropped)):
            continue
        inner = moment[np.ix_(kept, kept)]
        inner[np.diag_indices(len(kept))] += ridge
        lost = moment[np.ix_(kept, dropped)] @ matrix[np.ix_(rows, dropped)].T
        # Not `solve`: it works out a condition number as well, which takes several times as long.
        factor = cho_factor(inner, overwrite_a=True, check_finite=False)
        change = cho_solve(factor, lost, overwrite_b=True, check_finite=False)
        fitted[np.ix_(rows, kept)] += change.T
    return fitted
