"""Block pruning: a block of outputs and inputs stays or goes as a whole.

scores [K, n]   ->   a score for each block [K / outputs, n / inputs]   ->   mask [K, n]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.sparsity import Block


def block_scores(scores: NDArray[Any], block: Block) -> NDArray[Any]:
    """Add up the scores of each block: [K, n] -> [K / outputs, n / inputs].

    Raises UserError where blocks do not divide the matrix.
    """
    rows, columns = scores.shape
    if rows % block.outputs or columns % block.inputs:
        raise UserError(
            f"{block} sparsity needs multiples of {block.outputs} rows and {block.inputs} columns, "
            f"got {rows} and {columns}"
        )
    tiles = scores.reshape(rows // block.outputs, block.outputs, columns // block.inputs, block.inputs)
    return tiles.sum(axis=(1, 3))


def spread_blocks(kept: NDArray[np.bool_], block: Block) -> NDArray[np.bool_]:
    """Give the mask of the weights for one of the blocks: [K / outputs, n / inputs] -> [K, n]."""
    return kept.repeat(block.outputs, axis=0).repeat(block.inputs, axis=1)
