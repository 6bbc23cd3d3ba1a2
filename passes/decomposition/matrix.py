"""Matrix: a convolution's weight [K, C, R, S] as the matrix [K, R * S * C] that meets a window of its input.

The columns are in the order (r, s, c), as in the second moment of a layer's input (`tersor.statistics`).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def matrix_of(weight: NDArray[np.floating]) -> Floats:
    """Give the canonical matrix, float64 [K, R * S * C], of a weight [K, C, R, S] or a dense one [C, K]."""
    if weight.ndim == 2:
        return weight.T.astype(np.float64)
    return weight.transpose(0, 2, 3, 1).reshape(len(weight), -1).astype(np.float64)


def filters_of(matrix: Floats, window: tuple[int, int]) -> Floats:
    """Undo `matrix_of` for a convolution with this window: [K, R * S * C] -> [K, C, R, S]."""
    return matrix.reshape(len(matrix), *window, -1).transpose(0, 3, 1, 2)


def pointwise(matrix: Floats) -> Floats:
    """Give a matrix [K, C] as the weight of a 1x1 convolution, [K, C, 1, 1]."""
    return matrix[:, :, None, None]


def refit(matrix: Floats, features: Floats, second_moment: Floats | None) -> Floats:
    """Fit X [K, m] to the least E|(matrix - X features) x|^2 for x of a second moment, [n, n].

    `matrix` is [K, n], `features` [m, n]; without a second moment x is white, and the error is Frobenius'.
    Directions that the features do not reach are left out (the pseudo-inverse of the normal equations).
    """
    weighted = features if second_moment is None else features @ second_moment
    return matrix @ weighted.T @ np.linalg.pinv(weighted @ features.T, rcond=1e-12, hermitian=True)


def signed(vectors: Floats) -> Floats:
    """Give columns with the entry of largest magnitude positive, whatever LAPACK chose."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


def leading(matrix: Floats, rank: int) -> Floats:
    """Give the `rank` leading left singular vectors of a matrix [m, n], [m, rank], with fixed signs.

    They are eigenvectors of matrix @ matrix.T, which is small where n is large.
    """
    if matrix.shape[1] <= matrix.shape[0] and rank <= matrix.shape[1]:
        return signed(np.linalg.svd(matrix, full_matrices=False)[0][:, :rank])
    return principal(matrix @ matrix.T, rank)


def principal(symmetric: Floats, rank: int) -> Floats:
    """Give the eigenvectors of the `rank` largest eigenvalues, the largest first, [n, rank], signs fixed."""
    return signed(np.linalg.eigh(symmetric)[1][:, ::-1][:, :rank])


def balanced(weights: list[Floats]) -> tuple[NDArray[np.float32], ...]:
    """Scale the channels between the weights of a chain so that both sides have them at the same norm.

    Weights are [K, C / groups, R, S] each. What one multiplies by d the next divides by it, so the chain
    computes the same; neither is much larger than the other when both are rounded.
    """
    scaled = [weight.copy() for weight in weights]
    for i in range(len(scaled) - 1):
        first, second = scaled[i], scaled[i + 1]
        axis = (
            0 if second.shape[1] == 1 and len(second) == len(first) else 1
        )  # depthwise has its inputs there
        others = tuple(each for each in range(4) if each != axis)
        out = np.sqrt(np.square(first).sum(axis=(1, 2, 3)))
        into = np.sqrt(np.square(second).sum(axis=others))
        both = (out > 0) & (into > 0)
        scale = np.where(both, np.sqrt(into / np.where(both, out, 1.0)), 1.0)
        first *= scale[:, None, None, None]
        second /= scale[:, None, None, None] if axis == 0 else scale[None, :, None, None]
    return tuple(np.ascontiguousarray(weight, np.float32) for weight in scaled)
