"""N:M pruning: of every m neighbours in a row of the weight's matrix keep n.

scores [K, C]   ->   mask [K, C] with n of each m columns that follow one another
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.sparsity import NM


def nm_mask(scores: NDArray[Any], pattern: NM) -> NDArray[np.bool_]:
    """Which weights stay (bool, the shape of `scores`): the n of each m columns with the largest scores.

    Of equal scores the first stays. Raises UserError unless m divides the columns.
    """
    rows, columns = scores.shape
    if columns % pattern.m:
        raise UserError(f"{pattern} sparsity needs a multiple of {pattern.m} columns, got {columns}")
    groups = scores.reshape(rows, columns // pattern.m, pattern.m)
    largest = np.argsort(-groups, axis=-1, kind="stable")[..., : pattern.n]
    mask = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(mask, largest, True, axis=-1)
    return mask.reshape(rows, columns)
