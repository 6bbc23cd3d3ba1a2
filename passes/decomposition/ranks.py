"""Ranks: how many terms of a factorization a weight is worth, by its singular values or by a budget."""

import numpy as np
from numpy.typing import NDArray

from tersor.factor import Factor, LowRank, Spatial, Tucker, why_no_factor
from tersor.layer import Layer
from tersor.passes.decomposition.matrix import Floats, matrix_of
from tersor.passes.decomposition.vbmf import vbmf_rank
from tersor.rank_rule import RankRule, any_ranks, on_grid, round_up


def choose_factor(layer: Layer, weight: NDArray[np.float32], rule: RankRule) -> Factor | str:
    """Give the factorization that a rule finds for a layer with a weight, or the reason why it finds none."""
    if rule.by == "macs":
        return _by_macs(layer, rule)
    unfolded = _unfolded(layer, weight, rule.factor)
    if isinstance(unfolded, str):
        return unfolded
    ranks = [round_up(max(_rank(matrix, rule), 1), min(matrix.shape)) for matrix in unfolded]
    factor = {"rank": LowRank, "spatial": Spatial, "tucker": Tucker}[rule.factor](*ranks)
    reason = why_no_factor(layer, factor)
    return f"{rule} is {factor}, but {reason}" if reason else factor


def rank_for_energy(matrix: NDArray[np.floating], energy: float) -> int:
    """The least rank that keeps this share of a matrix's squares, 0 < energy <= 1; 1 of a matrix of zeros."""
    kept = np.cumsum(np.square(_singular(matrix.astype(np.float64))))
    return int(np.searchsorted(kept, min(energy, 1 - 1e-12) * kept[-1])) + 1 if kept[-1] > 0 else 1


def _by_macs(layer: Layer, rule: RankRule) -> Factor | str:
    assert rule.percent
    legal = on_grid(rule.factor, layer)
    budget = layer.macs * rule.percent / 100
    within = [each for each in legal if sum(part.macs for part in layer.factored(each)) <= budget]
    if within:
        return within[-1]
    if legal:
        return f"{rule} leaves less than {legal[0]}"
    reasons = (why_no_factor(layer, each) for each in any_ranks(rule.factor, layer))
    return next(filter(None, reasons), f"{layer.name} is too small for its ranks")


def _rank(matrix: Floats, rule: RankRule) -> int:
    return vbmf_rank(matrix) if rule.percent is None else rank_for_energy(matrix, rule.percent / 100)


def _unfolded(layer: Layer, weight: NDArray[np.float32], name: str) -> list[Floats] | str:
    """Give the matrices whose ranks a factorization has, in the order of its ranks."""
    least = {"rank": LowRank(1), "spatial": Spatial(1), "tucker": Tucker(1, 1)}[name]
    if reason := why_no_factor(layer, least):
        return reason
    exact = weight.astype(np.float64)
    match name:
        case "spatial":
            outputs, channels, height, width = exact.shape
            return [exact.transpose(1, 2, 3, 0).reshape(channels * height, width * outputs)]
        case "tucker":
            return [np.moveaxis(exact, axis, 0).reshape(exact.shape[axis], -1) for axis in (1, 0)]
        case _:
            return [matrix_of(weight)]


def _singular(matrix: Floats) -> Floats:
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    return np.sqrt(np.maximum(np.linalg.eigvalsh(wide @ wide.T)[::-1], 0.0))
