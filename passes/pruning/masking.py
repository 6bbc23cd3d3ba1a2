"""Mask: zeros for every number that makes or reads a dropped channel, in the network's own shapes.

The readers' other weights are fitted to what calibration saw, so that their outputs change least (`refit`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.ir.chains import Chain, find_chains
from tersor.ir.graph import Array, Expr, Graph, Module, operator, replace_weights
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.pruning.refit import bias_shift, canonical_matrix, covariance, from_canonical, refit
from tersor.plan import GroupPlan
from tersor.statistics import Statistics

# What is divided by a zero, or raised to it, would be no zero.
_ZEROED = ("nn.conv2d", "matmul", "add", "subtract", "multiply")


def masked(
    mod: Module, groups: Sequence[GroupPlan], statistics: Statistics | None = None, repair: bool = False
) -> Module:
    """Give the network with its dropped channels at zero; with `repair` their readers are fitted anew.

    Raises UserError for groups that the network does not have, and if `repair` lacks a Gram matrix.
    """
    graph = Graph(mod)
    dependencies = Dependencies(graph, outputs_stay=False)
    dropped = dependencies.dropped(groups)
    values: dict[str, Array] = {}
    if repair:
        chains = find_chains(graph)
        for name in _readers(dependencies, dropped):
            kept = dependencies.kept_mask(dependencies.inputs[name], dropped)
            uses = [chain for chain in chains if chain.layer == name]
            values |= _refitted(graph, uses, kept, statistics)
    for (var, place), cuts in dependencies.stored.items():
        value = graph.definition(var)
        stored = value.args[place]
        if stored in graph.weights and operator(value) in _ZEROED:
            array = np.array(values.get(stored.name, graph.weights[stored]))
            for cut in cuts:
                np.moveaxis(array, cut.axis, 0)[~dependencies.kept_mask(cut.numbers, dropped)] = 0
            values[stored.name] = array
    return replace_weights(mod, values)


def readers_of(mod: Module, groups: Sequence[GroupPlan]) -> tuple[str, ...]:
    """Name the layers whose inputs lose channels: those whose Gram matrices `masked` needs to repair."""
    dependencies = Dependencies(Graph(mod), outputs_stay=False)
    return _readers(dependencies, dependencies.dropped(groups))


def _readers(dependencies: Dependencies, dropped: frozenset[int]) -> tuple[str, ...]:
    inputs = dependencies.inputs.items()
    return tuple(name for name, classes in inputs if not dependencies.kept_mask(classes, dropped).all())


def _refitted(
    graph: Graph, uses: list[Chain], kept: NDArray[np.bool_], statistics: Statistics | None
) -> dict[str, Array]:
    """Give a layer's weight fitted to the input channels left, `kept` [C], and its bias if it has one."""
    chain = uses[0]
    gram = None if statistics is None else statistics.grams.get(chain.layer)
    if gram is None:
        raise UserError(
            f"fitting {chain.layer!r} to the channels that are left needs calibration statistics with the "
            'Gram matrix of its input: calibrate for the plan, or set "repair" to false in the recipe'
        )
    weight = graph.weights[chain.weight]
    matrix = canonical_matrix(weight, int(chain.attributes.groups) if chain.operator == "nn.conv2d" else 1)
    columns = np.tile(kept, matrix.shape[2] // len(kept))
    bias = _own_bias(graph, uses)
    fitted = refit(matrix, covariance(gram.second_moment, None if bias is None else gram.mean), columns)
    values: dict[str, Array] = {chain.layer: from_canonical(fitted, weight.shape)}
    if bias is not None:
        before = graph.weights[bias]
        values[bias.name] = before + bias_shift(matrix, fitted, gram.mean).reshape(before.shape)
    return values


def _own_bias(graph: Graph, uses: list[Chain]) -> Expr | None:
    """Give the bias of a layer that is used once, if nothing else reads it."""
    if len(uses) > 1 or not uses[0].bias_name:
        return None
    (bias,) = (
        operand
        for operand in graph.definition(uses[0].variables[1]).args
        if operand in graph.weights and operand.name == uses[0].bias_name
    )
    return bias if len(graph.users(bias)) == 1 else None
