"""CP: a convolution as a sum of outer products along each of its axes (Lebedev et al., ICLR 2015).

conv RxS, C -> K   ->   conv 1x1, C -> rank; depthwise Rx1; depthwise 1xS; conv 1x1, rank -> K

Alternating least squares from several starts, of which the best is taken. Sums of large terms that cancel
(degeneracy; Phan et al., ECCV 2020) would not survive rounding: such a fit is done again with damping.
"""

from collections.abc import Sequence

import numpy as np

from tersor.passes.decomposition.matrix import Floats, leading, matrix_of, pointwise, refit
from tersor.passes.decomposition.tucker import bases

STARTS = 3  # the singular vectors of each axis, and random ones
# Rounds, and the change of the squared relative error that ends them: from every start, then from the best.
TRIED = (20, 1e-5)
REFINED = (100, 1e-7)
DEGENERATE = 10.0  # norm of the terms above which they cancel, relative to the weight's
DAMPINGS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)  # relative to the mean of the normal matrix's diagonal


def cp(weight: Floats, rank: int, second_moment: Floats | None = None) -> list[Floats]:
    """Give the weights [rank, C, 1, 1], [rank, 1, R, 1], [rank, 1, 1, S], [K, rank, 1, 1] of [K, C, R, S].

    With a second moment [n, n] of the inputs the last of them is fitted to the outputs.
    """
    outputs, inputs, rows, columns = cp_terms(weight, rank)
    if second_moment is not None:
        features = np.einsum("ci,ri,si->irsc", inputs, rows, columns).reshape(rank, -1)
        outputs = refit(matrix_of(weight), features, second_moment)
    return [
        pointwise(inputs.T),
        rows.T[:, None, :, None],
        columns.T[:, None, None, :],
        pointwise(outputs),
    ]


def cp_terms(weight: Floats, rank: int) -> tuple[Floats, ...]:
    """Give the factors [extent of the axis, rank] of each axis; their norm is in the first.

    Of all starts the one of least error that is not degenerate. Of a weight with more channels than terms
    it is the Tucker-2 core that is fitted (CANDELINC; Carroll et al., Psychometrika 1980).
    """
    if not weight.any():
        return tuple(np.zeros((extent, rank)) for extent in weight.shape)
    if rank >= weight.size // max(weight.shape[:2]):
        return _written_out(weight, rank)
    ranks = min(rank, weight.shape[1]), min(rank, weight.shape[0])
    if ranks == (weight.shape[1], weight.shape[0]):
        return _best_terms(weight, rank)
    inputs, outputs = bases(weight, ranks)
    core = np.einsum("kcrs,ci,ko->oirs", weight, inputs, outputs, optimize=True)
    first, second, *window = _best_terms(core, rank)
    return outputs @ first, inputs @ second, *window


def _written_out(weight: Floats, rank: int) -> tuple[Floats, ...]:
    """Give one term for each place of the window and each of the inputs or the outputs, exactly."""
    if weight.shape[0] < weight.shape[1]:
        inputs, outputs, *window = _written_out(weight.transpose(1, 0, 2, 3), rank)
        return outputs, inputs, *window
    terms = np.indices(weight.shape[1:]).reshape(3, -1)
    sides = [np.zeros((extent, rank)) for extent in weight.shape]
    sides[0][:, : terms.shape[1]] = weight.reshape(len(weight), -1)
    for side, places in zip(sides[1:], terms, strict=True):
        side[places, np.arange(len(places))] = 1
    return tuple(sides)


def _best_terms(weight: Floats, rank: int) -> tuple[Floats, ...]:
    found: list[tuple[float, tuple[Floats, ...]]] = []
    for damping in DAMPINGS:
        tried = [_fitted(weight, start, damping, *TRIED) for start in _starts(weight, rank)]
        best = min(tried, key=lambda each: each[0])
        found.append(_fitted(weight, best[1], damping, *REFINED))
        if degeneracy(found[-1][1], weight) <= DEGENERATE:
            return found[-1][1]
    return min(found, key=lambda each: degeneracy(each[1], weight))[1]


def degeneracy(factors: Sequence[Floats], weight: Floats) -> float:
    """The norm of all terms, each alone, relative to the weight's: large where they cancel one another."""
    norms = np.prod([np.square(factor).sum(axis=0) for factor in factors], axis=0)
    return float(np.sqrt(norms.sum()) / np.linalg.norm(weight))


def _starts(weight: Floats, rank: int) -> list[list[Floats]]:
    starts = []
    for seed in range(STARTS):
        random = np.random.default_rng(seed)
        start = [random.standard_normal((extent, rank)) for extent in weight.shape]
        if seed == 0:
            for axis, factor in enumerate(start):
                unfolded = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
                known = min(rank, *unfolded.shape)
                factor[:, :known] = leading(unfolded, known)
        starts.append(start)
    return starts


def _fitted(
    weight: Floats, start: Sequence[Floats], damping: float, rounds: int, enough: float
) -> tuple[float, tuple[Floats, ...]]:
    """Give the relative error and the factors that alternating least squares ends with."""
    factors, norm, error = list(start), float(np.linalg.norm(weight)), np.inf
    unfolded = [np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) for axis in range(4)]
    for _ in range(rounds):
        for axis in (1, 2, 3, 0):
            others = [factors[other] for other in range(4) if other != axis]
            gram = np.prod([other.T @ other for other in others], axis=0)
            gram += (damping * np.trace(gram) / len(gram)) * np.eye(len(gram))
            met = unfolded[axis] @ _khatri_rao(others)
            factors[axis] = met @ np.linalg.pinv(gram, rcond=1e-12, hermitian=True)
            if axis:
                length = np.linalg.norm(factors[axis], axis=0)
                factors[axis] = factors[axis] / np.where(length > 0, length, 1.0)
        # |W - W'|^2 = |W|^2 - 2 <W, W'> + |W'|^2, by what the last axis was solved from.
        squares = np.prod([factor.T @ factor for factor in factors], axis=0).sum()
        before, error = error, norm**2 - 2 * float((met * factors[0]).sum()) + float(squares)
        if before - error <= enough * norm**2:
            break
    return max(error, 0.0) ** 0.5 / norm, tuple(factors)


def _khatri_rao(factors: Sequence[Floats]) -> Floats:
    """The columnwise Kronecker product, [product of the extents, rank]."""
    result = factors[0]
    for factor in factors[1:]:
        result = (result[:, None, :] * factor[None, :, :]).reshape(-1, result.shape[1])
    return result
