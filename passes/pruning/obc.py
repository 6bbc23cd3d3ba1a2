"""OBC: drop weights by what the output loses once the others of their row have taken over, and let them.

For a row w and the inverse P of the inputs' moments, dropping the weights D costs w_D (P_DD)^-1 w_D and moves
the others by -P_:D (P_DD)^-1 w_D (Hassibi and Stork, Optimal Brain Surgeon, 1993; Frantar and Alistarh,
Optimal Brain Compression, 2022). Columns are decided from left to right and then stay as they are, so that
all rows share one P: after column j it is that of the columns behind j, which the Cholesky factor of the
first P holds (Frantar and Alistarh, SparseGPT, 2023, sec. 3.3). What stays of a group of N:M is the best of
all its subsets.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tersor.passes.pruning.pattern import Mask, spread
from tersor.passes.pruning.unstructured import kept_count, largest
from tersor.sparsity import NM, Block, Sparsity

DAMPING = 0.01
"""Of the mean of the diagonal, added to it before the moments are inverted (SparseGPT's)."""

COLUMNS = 128
"""Columns of which blocks and single weights are chosen together (SparseGPT's block size)."""

SUBSETS = 128
"""Subsets of a group that are tried; a group with more is decided by the single weights' costs."""

Floats = NDArray[np.float64]


def surgeon(matrix: Floats, moments: Floats, sparsity: Sparsity) -> tuple[Mask, Floats]:
    """Choose and compensate: the mask of the weights that stay and their new values, both [G * K, n].

    `moments` [G, n, n] are of the inputs of each group.
    """
    groups = len(moments)
    masks, results, budget = [], [], _Budget(sparsity.density)
    for part, moment in zip(np.split(matrix, groups), moments, strict=True):
        mask, result = _one_group(part, moment, sparsity, budget)
        masks.append(mask)
        results.append(result)
    return np.concatenate(masks), np.concatenate(results)


class _Budget:
    """How many weights or blocks stay so far, so that the roundings of parts do not add up."""

    def __init__(self, density: float) -> None:
        self.density = density
        self.seen = 0
        self.kept = 0

    def take(self, count: int) -> int:
        """How many of the next `count` stay."""
        self.seen += count
        kept = kept_count(self.seen, self.density)
        self.kept, taken = kept, kept - self.kept
        return taken


def _one_group(matrix: Floats, moment: Floats, sparsity: Sparsity, budget: _Budget) -> tuple[Mask, Floats]:
    weights, mask = matrix.copy(), np.ones(matrix.shape, np.bool_)
    factor = _factor(moment)
    columns = matrix.shape[1]
    width = _width(sparsity, columns)
    for start in range(0, columns, width):
        part = slice(start, min(start + width, columns))
        inner = factor[part, part]
        if not isinstance(sparsity, NM):
            mask[:, part] = _chosen(weights[:, part], inner, sparsity, budget)
        errors = np.zeros((len(matrix), part.stop - start))
        for j in range(part.stop - start):
            here = start + j
            if isinstance(sparsity, NM) and j % sparsity.m == 0:
                group = slice(here, here + sparsity.m)
                mask[:, group] = _best_of_group(weights[:, group], factor[group, group], sparsity)
            errors[:, j] = np.where(mask[:, here], 0.0, weights[:, here]) / factor[here, here]
            weights[:, here : part.stop] -= np.outer(errors[:, j], factor[here, here : part.stop])
        weights[:, part.stop :] -= errors @ factor[part, part.stop :]
    weights[~mask] = 0
    return mask, weights


def _factor(moment: Floats) -> Floats:
    """The upper triangle U with inverse(moment) = U^T U; U[j:, j:] then is that of the columns from j on."""
    damped = moment.copy()
    mean = float(np.trace(moment)) / len(moment)
    damped[np.diag_indices(len(moment))] += DAMPING * mean if mean > 0 else 1.0
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T, np.float64)


def _width(sparsity: Sparsity, columns: int) -> int:
    """How many columns are taken together: whole groups and whole blocks."""
    unit = sparsity.m if isinstance(sparsity, NM) else sparsity.inputs if isinstance(sparsity, Block) else 1
    return min(columns, max(1, COLUMNS // unit) * unit)


def _chosen(weights: Floats, factor: Floats, sparsity: Sparsity, budget: _Budget) -> Mask:
    """Choose among single weights or blocks by their costs, each as if it went alone."""
    if not isinstance(sparsity, Block):
        costs = np.square(weights / np.diagonal(factor))
        return largest(costs, budget.take(costs.size))
    parts = [slice(at, at + sparsity.inputs) for at in range(0, weights.shape[1], sparsity.inputs)]
    costs = np.stack([_cost(weights[:, part], factor[part, part]) for part in parts], axis=1)
    blocks = costs.reshape(-1, sparsity.outputs, costs.shape[1]).sum(axis=1)
    return spread(largest(blocks, budget.take(blocks.size)), sparsity)


def _cost(weights: Floats, factor: Floats) -> Floats:
    """What each row loses, [K], if all these columns go: w (P_DD)^-1 w with P_DD = U^T U."""
    return np.square(np.linalg.solve(factor.T, weights.T)).sum(axis=0)


def _best_of_group(weights: Floats, factor: Floats, pattern: NM) -> Mask:
    """Which n of m columns stay in each row, [K, m]: those without which it would lose the most."""
    inverse = factor.T @ factor
    dropped = list(combinations(range(pattern.m), pattern.m - pattern.n))
    mask = np.ones(weights.shape, np.bool_)
    if len(dropped) > SUBSETS:
        costs = np.square(weights / np.diagonal(factor))
        order = np.argsort(-costs, axis=1, kind="stable")[:, pattern.n :]
    else:
        curvatures = [np.linalg.inv(inverse[np.ix_(out, out)]) for out in dropped]
        costs = [
            np.einsum("ki,ij,kj->k", weights[:, out], curvature, weights[:, out])
            for out, curvature in zip(dropped, curvatures, strict=True)
        ]
        order = np.array(dropped)[np.argmin(np.stack(costs), axis=0)]
    np.put_along_axis(mask, order, False, axis=1)
    return mask
