"""N:M pruning: of every m neighbours along the reduction axis keep the n largest.

w [C, K]   ->   w * nm_mask(w, n, m)
"""

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError


def nm_mask(weight: NDArray[np.float32], n: int, m: int, axis: int = 0) -> NDArray[np.bool_]:
    """Which weights stay (bool, the weight's shape): n of each m consecutive ones along `axis`, by magnitude.

    Of equal magnitudes the first stays. Raises UserError unless 0 < n < m and m divides the axis.
    """
    if not 0 < n < m:
        raise UserError(f"N:M sparsity needs 0 < n < m, got {n}:{m}")
    if weight.shape[axis] % m:
        raise UserError(f"{n}:{m} sparsity needs a reduction axis that {m} divides, got {weight.shape[axis]}")
    magnitude = np.abs(np.moveaxis(weight, axis, -1))
    blocks = magnitude.reshape(*magnitude.shape[:-1], -1, m)
    largest = np.argsort(-blocks, axis=-1, kind="stable")[..., :n]
    mask = np.zeros(blocks.shape, np.bool_)
    np.put_along_axis(mask, largest, True, axis=-1)
    return np.ascontiguousarray(np.moveaxis(mask.reshape(magnitude.shape), -1, axis))
