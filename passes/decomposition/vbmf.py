"""VBMF: the rank that stands out from noise, by empirical variational Bayesian matrix factorization.

Nakajima, Sugiyama, Babacan and Tomioka, Global Analytic Solution of Fully-observed Variational Bayesian
Matrix Factorization, JMLR 14 (2013): the equations below are theirs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]

TAU = 2.5129  # of Theorem 2: the threshold of tau, in units of sqrt(alpha)


def vbmf_rank(matrix: NDArray[np.floating]) -> int:
    """Count the singular values of a matrix that are more than noise, whose variance is estimated, too.

    The matrix is the sum of one of low rank and of independent noise of equal variance. 0 if it is all noise.
    """
    wide = matrix.astype(np.float64)
    wide = wide if len(wide) <= wide.shape[1] else wide.T
    squares = np.maximum(np.linalg.eigvalsh(wide @ wide.T)[::-1], 0.0)
    if squares[0] <= 0:
        return 0
    squares = np.maximum(squares, squares[0] * 1e-14)  # a variance of zero has no logarithm
    rows, columns = wide.shape
    return int((squares > columns * _noise(squares, columns) * _threshold(rows / columns)).sum())


def _threshold(alpha: float) -> float:
    """The squared singular value, in units of columns * variance, above which a term is kept (eq. 16)."""
    tau = TAU * alpha**0.5
    return (1 + tau) * (1 + alpha / tau)


def _noise(squares: Floats, columns: int) -> float:
    """The variance of the noise of least free energy (Theorem 4); it lies between these bounds (eq. 23)."""
    rows = len(squares)
    alpha = rows / columns
    most = min(int(np.ceil(rows / (1 + alpha))) - 1, rows - 1)  # terms that can be kept at all
    highest = squares.sum() / (rows * columns)
    lowest = max(squares[most] / (columns * _threshold(alpha)), squares[most:].mean() / columns)
    if lowest >= highest:
        return float(highest)
    # The logarithm, because the bounds may be orders of magnitude apart.
    found = minimize_scalar(
        lambda logarithm: _free_energy(np.exp(logarithm), squares, columns),
        bounds=(np.log(lowest), np.log(highest)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(np.exp(found.x))


def _free_energy(variance: float, squares: Floats, columns: int) -> float:
    """The part of the free energy, over the columns, that depends on the variance (eq. 21 and 22)."""
    alpha = len(squares) / columns
    x = squares / (columns * variance)
    kept, left = x[x > _threshold(alpha)], x[x <= _threshold(alpha)]
    middle = kept - (1 + alpha)
    tau = 0.5 * (middle + np.sqrt(np.square(middle) - 4 * alpha))
    terms = kept - tau + np.log((tau + 1) / kept) + alpha * np.log(tau / alpha + 1)
    return float((left - np.log(left)).sum() + terms.sum())
