"""Refit: the weights that are left take over what the dropped columns of the sum gave.

    minimize  E |W x - V x_S - c|^2    =>    V = W G[:, S] (G[S, S] + ridge I)^-1

x are the layer's inputs, S the columns that are left, G their covariance; c goes into the bias, and without a
bias G is the second moment. (Channel pruning: He, Zhang, Sun, ICCV 2017, eq. 2.)
"""

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-4  # of the mean of the diagonal: what calibration saw little of stays near the weights that were

Floats = NDArray[np.float64]


def canonical_matrix(weight: NDArray[np.float32], groups: int = 1) -> Floats:
    """Give a weight as matrices [G, K, n], K outputs of a group and n = R*S*C columns in the order (r, s, c).

    `weight` is OIHW [G*K, C, R, S], or [C, K] of a dense layer.
    """
    rows = weight.T if weight.ndim == 2 else weight.transpose(0, 2, 3, 1)
    return rows.reshape(groups, weight.shape[1] if weight.ndim == 2 else len(weight) // groups, -1).astype(
        np.float64
    )


def from_canonical(matrix: Floats, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Give the weight of `shape` whose canonical matrices are `matrix` [G, K, n]."""
    if len(shape) == 2:
        return np.ascontiguousarray(matrix[0].T, dtype=np.float32)
    outputs, inputs, height, width = shape
    taps = matrix.reshape(outputs, height, width, inputs)
    return np.ascontiguousarray(taps.transpose(0, 3, 1, 2), dtype=np.float32)


def covariance(second_moment: NDArray[np.float32], mean: Floats | None) -> Floats:
    """Give the covariance [G, n, n] about the mean [G, n], or the second moment where that is None."""
    wide = second_moment.astype(np.float64)
    return wide if mean is None else wide - mean[:, :, None] * mean[:, None, :]


def refit(matrix: Floats, moments: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Give the weight [G, K, n] with its columns outside `kept` [n] at zero and the others fitted anew.

    `moments` [G, n, n] are of the inputs, all columns of the unpruned network.
    """
    result = np.zeros_like(matrix)
    for group, (weight, gram) in enumerate(zip(matrix, moments, strict=True)):
        inner = gram[np.ix_(kept, kept)]
        ridge = RIDGE * float(np.trace(inner)) / max(int(kept.sum()), 1)
        if ridge <= 0:  # the inputs that are left never vary
            result[group][:, kept] = weight[:, kept]
            continue
        # Fitted is the difference from the weight, so that without any use of it nothing changes.
        lost = weight[:, ~kept] @ gram[np.ix_(~kept, kept)]
        change = np.linalg.solve(inner + ridge * np.eye(len(inner)), lost.T).T
        result[group][:, kept] = weight[:, kept] + change
    return result


def bias_shift(matrix: Floats, fitted: Floats, mean: Floats) -> NDArray[np.float32]:
    """What to add to the bias, [G*K], so that the mean of the output stays: (W - V) E[x]."""
    return np.einsum("gkn,gn->gk", matrix - fitted, mean).reshape(-1).astype(np.float32)
