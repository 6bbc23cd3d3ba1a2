"""Prune, share, repair: few different weights in each layer, chosen by what its output loses, untrained.

    w   ->   zeros by OBC (surgeon), the rest fitted   ->   a table of 2^bits values   ->   the table fitted

Weights find their value in the table column by column, and the columns behind take up the error (GPTQ,
Frantar et al., 2023); then the table's entries are fitted to the layer's output, which is linear in them
(Han et al., Deep Compression, 2016, trains them instead).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of, weight_of
from tersor.gram import Gram
from tersor.ir.chains import find_chains
from tersor.ir.graph import Graph, Module
from tersor.passes.pruning.obc import surgeon
from tersor.passes.pruning.repair import bias_change, repair
from tersor.sparsity import Unstructured
from tersor.weight_format import Codebook

Floats = NDArray[np.float64]
ROUNDS = 3
DAMPING = 0.01  # of the mean of the diagonal


def share_weights(
    mod: Module, grams: Mapping[str, Gram], zeros: Mapping[str, float], bits: Mapping[str, int]
) -> dict[str, NDArray[np.float32]]:
    """Give the weights and biases of the layers in `bits`, of at most 2^bits different values each.

    `zeros` are the percentages that are dropped, none of layers that are not in it.
    """
    graph = Graph(mod)
    weights = {var.name: value for var, value in graph.weights.items()}
    values: dict[str, NDArray[np.float32]] = {}
    for chain in find_chains(graph):
        if chain.layer not in bits:
            continue
        axis = 0 if chain.operator == "nn.conv2d" else 1
        weight, gram = weights[chain.layer], grams[chain.layer]
        matrix = matrix_of(weight.astype(np.float64), axis)
        moments = gram.second_moment.astype(np.float64)
        if chain.bias_name:
            moments = moments - gram.mean[:, :, None] * gram.mean[:, None, :]
        shared = _shared(matrix, moments, zeros.get(chain.layer, 0.0), bits[chain.layer])
        values[chain.layer] = weight_of(shared, weight.shape, axis)
        if chain.bias_name:
            bias = weights[chain.bias_name]
            change = bias_change(matrix, shared.astype(np.float64), gram.mean)
            values[chain.bias_name] = (
                (bias + change.reshape(bias.shape)).astype(np.float16).astype(np.float32)
            )
    return values


def _shared(matrix: Floats, moments: Floats, zeros: float, bits: int) -> NDArray[np.float32]:
    mask, kept = np.ones(matrix.shape, np.bool_), matrix
    if zeros:
        mask, kept = surgeon(matrix, moments, Unstructured(zeros))
        kept = repair(matrix, mask, moments)
    importance = np.einsum("gnn->n", moments) if len(moments) == 1 else np.ones(matrix.shape[1])
    importance = importance + DAMPING * max(float(importance.mean()), 1e-30)
    grid = fit(np.where(mask, kept, 0.0).astype(np.float32), Codebook(bits), False, importance=importance)
    table = grid.levels.astype(np.float64)
    best, least = np.zeros(matrix.shape), np.inf
    for _ in range(ROUNDS):
        indices = _assigned(kept, mask, moments, table)
        table = _fitted(matrix, indices, moments, table, bool(zeros))
        result = table.astype(np.float32)[indices].astype(np.float64)
        lost = _lost(matrix - result, moments)
        if lost < least:
            best, least = result, lost
        order = np.argsort(table)
        table = table[order]
    return best.astype(np.float32)


def _assigned(kept: Floats, mask: NDArray[np.bool_], moments: Floats, table: Floats) -> NDArray[np.intp]:
    """Choose an entry for each weight, 0 for those outside the mask; the columns behind take up errors."""
    groups = len(moments)
    rows = len(kept) // groups
    indices = np.zeros(kept.shape, np.intp)
    zero = int(np.argmin(np.abs(table)))
    for group, moment in enumerate(moments):
        part = slice(group * rows, (group + 1) * rows)
        damped = moment + np.eye(len(moment)) * max(DAMPING * float(np.trace(moment)) / len(moment), 1e-12)
        factor = np.linalg.cholesky(np.linalg.inv(damped)).T
        weights, stays = np.where(mask[part], kept[part], 0.0), mask[part]
        for column in range(weights.shape[1]):
            chosen = np.abs(weights[:, column, None] - table).argmin(axis=1)
            chosen = np.where(stays[:, column], chosen, zero)
            indices[part, column] = chosen
            error = (
                np.where(stays[:, column], weights[:, column] - table[chosen], 0.0) / factor[column, column]
            )
            weights[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :]) * stays[:, column + 1 :]
    return indices


def _fitted(
    matrix: Floats, indices: NDArray[np.intp], moments: Floats, table: Floats, has_zero: bool
) -> Floats:
    """Fit the entries to the layer's output: the result is linear in them; an entry 0 stays 0."""
    groups = len(moments)
    zero = int(np.argmin(np.abs(table))) if has_zero else -1
    free = [entry for entry in range(len(table)) if entry != zero and (indices == entry).any()]
    rows = len(matrix) // groups
    normal, right = np.zeros((len(free), len(free))), np.zeros(len(free))
    for group, moment in enumerate(moments):
        part = slice(group * rows, (group + 1) * rows)
        masks = [(indices[part] == entry).astype(np.float64) for entry in free]
        weighed = np.stack([(each @ moment).reshape(-1) for each in masks])
        normal += weighed @ np.stack([each.reshape(-1) for each in masks]).T
        right += weighed @ matrix[part].reshape(-1)
    ridge = 1e-6 * max(float(np.trace(normal)) / len(free), 1e-30)
    fitted = table.copy()
    start = table[free]
    fitted[free] = start + np.linalg.solve(normal + ridge * np.eye(len(free)), right - normal @ start)
    if has_zero:
        fitted[zero] = 0.0
    return fitted


def _lost(change: Floats, moments: Floats) -> float:
    rows = change.reshape(len(moments), -1, change.shape[1])
    return float(np.einsum("gkn,gnm,gkm->", rows, moments, rows, optimize=True))
