"""Pattern: from a score for each weight to the mask that keeps the most of it in the pattern of a sparsity.

Scores are losses that add up, such as w^2: a block's is the sum of its weights'.
"""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.passes.pruning.block import block_scores, spread_blocks
from tersor.passes.pruning.nm import nm_mask
from tersor.passes.pruning.unstructured import kept_count, largest
from tersor.sparsity import NM, Block, Channels, Sparsity, Unstructured

Scope = Literal["row", "layer", "network"]
"""Among which weights the percentage of a sparsity holds: those of an output, of a layer, of all layers."""

Mask = NDArray[np.bool_]


def mask_of(scores: NDArray[Any], sparsity: Sparsity, scope: Literal["row", "layer"] = "layer") -> Mask:
    """Give the weights of one layer that stay (bool, the shape [K, n] of `scores`).

    Of blocks a row of blocks counts as a row. Raises UserError where the pattern does not divide the matrix.
    """
    if isinstance(sparsity, NM):
        return nm_mask(scores, sparsity)
    units = unit_scores(scores, sparsity)
    if scope == "row":
        count = kept_count(units.shape[1], sparsity.density)
        kept = np.stack([largest(row, count) for row in units])
    else:
        kept = largest(units, kept_count(units.size, sparsity.density))
    return spread(kept, sparsity)


def joint_masks(scores: Sequence[NDArray[Any]], sparsity: Sparsity) -> list[Mask]:
    """Give the masks of several layers of one sparsity whose percentage holds for all of them together.

    Compared is what share of all that is no smaller in its layer a weight or block is, so that layers of
    different scales meet on one threshold and none loses everything (Lee et al., Layer-Adaptive Sparsity for
    the Magnitude-Based Pruning, ICLR 2021, eq. 3). An N:M pattern says how many stay in every group, so it
    leaves nothing to share out.
    """
    if isinstance(sparsity, NM):
        return [nm_mask(each, sparsity) for each in scores]
    units = [unit_scores(each, sparsity) for each in scores]
    flat = np.concatenate([_shares(each.reshape(-1)) for each in units])
    kept = largest(flat, kept_count(flat.size, sparsity.density))
    parts = np.split(kept, np.cumsum([each.size for each in units])[:-1])
    return [spread(part.reshape(each.shape), sparsity) for part, each in zip(parts, units, strict=True)]


def unit_scores(scores: NDArray[Any], sparsity: Sparsity) -> NDArray[Any]:
    """Give the scores of what stays or goes as a whole: of blocks, or of single weights."""
    match sparsity:
        case Block():
            return block_scores(scores, sparsity)
        case Unstructured():
            return scores
        case NM() | Channels():
            raise UserError(f"{sparsity} is no share of the weights or blocks of a matrix")
        case _:
            assert_never(sparsity)


def spread(kept: Mask, sparsity: Sparsity) -> Mask:
    """Undo `unit_scores` for a mask."""
    return spread_blocks(kept, sparsity) if isinstance(sparsity, Block) else kept


def _shares(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Divide each score by the sum of those that are no smaller, [units]; the largest one's share is 1."""
    order = np.argsort(scores, kind="stable")
    ascending = scores[order].astype(np.float64)
    sums = np.cumsum(ascending[::-1])[::-1]
    shares = np.empty(len(scores))
    shares[order] = np.divide(ascending, sums, out=np.zeros_like(ascending), where=sums > 0)
    return shares
