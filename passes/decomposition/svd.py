"""Truncated singular value decomposition: a dense weight as a product of two thin ones.

matmul(x, w [C, K])   ->   matmul(matmul(x, u [C, r]), v [r, K])
"""

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError


def truncated_svd(weight: NDArray[np.float32], rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The best factors of a rank, U [C, rank] and V [rank, K] in float32, with U V near the weight [C, K].

    No other factors of this rank have a smaller Frobenius error (Eckart and Young, Psychometrika 1936). Each
    factor takes the root of the singular values, so that neither is much larger than the other when both are
    quantized. Each column of U has its entry of largest magnitude positive, whatever LAPACK chose.

    Raises UserError unless 1 <= rank <= min(C, K).
    """
    if not 1 <= rank <= min(weight.shape):
        raise UserError(
            f"a weight of shape {list(weight.shape)} needs a rank of 1 to {min(weight.shape)}, got {rank}"
        )
    left, singular, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    left, root, right = left[:, :rank], np.sqrt(singular[:rank]), right[:rank]
    largest = np.abs(left).argmax(axis=0)
    sign = np.where(left[largest, np.arange(rank)] < 0, -1.0, 1.0)
    return (left * (sign * root)).astype(np.float32), ((sign * root)[:, None] * right).astype(np.float32)


def rank_for_energy(weight: NDArray[np.float32], energy: float) -> int:
    """The least rank whose factors keep this share of the squared weights, 0 < energy <= 1.

    Raises UserError for another energy.
    """
    if not 0 < energy <= 1:
        raise UserError(f"the energy to keep is a share above 0 and at most 1, got {energy}")
    squares = np.square(np.linalg.svd(weight.astype(np.float64), compute_uv=False))
    kept = np.cumsum(squares)
    return int(np.searchsorted(kept, energy * kept[-1])) + 1 if kept[-1] > 0 else 1
