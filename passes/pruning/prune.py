"""Prune: drop weights in the pattern that a layer's scheme names, and fit the others to the layer's output.

conv2d | matmul(x, w) + b   ->   conv2d | matmul(x, v) + c      v zero outside a mask

The criterion of the recipe chooses the mask; with `repair` the weights that stay are fitted. Layers that were
reshaped before, factors and what reads fewer channels, have inputs that calibration has not seen: of those
the largest weights stay, as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.formats.matrix import matrix_of, weight_of
from tersor.gram import Gram
from tersor.ir.chains import Chain
from tersor.ir.graph import Array, Graph, Module, replace_weights
from tersor.ir.parts import find_parts
from tersor.ir.recurrent import Recurrence
from tersor.passes.extract import layer_of
from tersor.passes.memo import remembered
from tersor.passes.pruning.criteria import Dense, Floats, Magnitude, criterion_of
from tersor.passes.pruning.repair import bias_change, repair
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.sparsity import Channels, Sparsity, why_no_pattern
from tersor.statistics import Statistics


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the weight of a layer is, and the bias that can take up its mean error, if there is one."""

    weight: Any
    axis: int  # of the output channels
    bias: str = ""


def prune(
    mod: Module, schemes: Mapping[str, Scheme], statistics: Statistics | None, recipe: Recipe
) -> Module:
    """Thin the weights whose scheme says so; `channels` sparsity is not of this pass.

    `statistics` have the Gram matrices of those layers where the criterion or the repair needs them, of the
    network as it came. Raises UserError for a pattern that a layer cannot have, and where there are none.
    """
    wanted = {name: pattern for name, scheme in schemes.items() if (pattern := _pattern(scheme))}
    if not wanted:
        return mod
    criterion = criterion_of(recipe.criterion)
    graph = Graph(mod)
    places = _places(graph, wanted)
    needs_inputs = recipe.repair or criterion.needs_inputs
    layers = {}
    for name, place in places.items():
        matrix = matrix_of(graph.weights[place.weight].astype(np.float64), place.axis)
        gram = _gram(statistics, name, matrix) if needs_inputs else None
        centred = recipe.repair and gram is not None and bool(place.bias)
        saliency = _saliency(statistics, name, matrix) if criterion.needs_gradients else None
        layers[name] = Dense(matrix, wanted[name], gram, centred, saliency)
    key = [(name, str(layer.sparsity), layer.centred) for name, layer in layers.items()]
    arrays = [array for layer in layers.values() for array in _arrays(layer)]
    size = sum(layer.matrix.nbytes for layer in layers.values())
    changed = remembered(
        lambda: _thinned(layers, recipe), size, "prune", recipe.criterion, recipe.repair, key, *arrays
    )
    weights = {var.name: value for var, value in graph.weights.items()}
    values: dict[str, Array] = {}
    for name, place in places.items():
        matrix, change = changed[name]
        values[name] = weight_of(matrix, weights[name].shape, place.axis).astype(np.float32)
        if change is not None:
            bias = weights[place.bias]
            values[place.bias] = (bias + change.reshape(bias.shape)).astype(np.float32)
    return replace_weights(mod, values)


def _pattern(scheme: Scheme) -> Sparsity | None:
    return None if isinstance(scheme.sparsity, Channels) else scheme.sparsity


def _thinned(layers: Mapping[str, Dense], recipe: Recipe) -> dict[str, tuple[Floats, Floats | None]]:
    """Give the weight of each layer as its matrix, and what its bias changes by."""
    changed: dict[str, tuple[Floats, Floats | None]] = {}
    criterion = criterion_of(recipe.criterion)
    unseen = {
        name
        for name, layer in layers.items()
        if (criterion.needs_inputs and layer.gram is None)
        or (criterion.needs_gradients and layer.saliency is None)
    }
    seen = {name: layer for name, layer in layers.items() if name not in unseen}
    unseen_layers = {name: layers[name] for name in layers if name in unseen}
    for name, thinned in (criterion.thin(seen) | Magnitude().thin(unseen_layers)).items():
        layer, matrix = layers[name], thinned.matrix
        if recipe.repair and layer.gram is not None:
            matrix = repair(layer.matrix, thinned.mask, layer.moments)
        change = bias_change(layer.matrix, matrix, layer.known.mean) if layer.centred else None
        changed[name] = matrix, change
    return changed


def _places(graph: Graph, wanted: Mapping[str, Sparsity]) -> dict[str, _Place]:
    found: dict[str, _Place] = {}
    for part in find_parts(graph):
        sparsity = wanted.get(part.layer)
        if sparsity is None:
            continue
        if reason := why_no_pattern(layer_of(part), sparsity):
            raise UserError(f"the layer {part.layer!r}: {reason}; remove {sparsity} from its scheme")
        match part:
            case Chain():
                is_shared = part.layer in found
                axis = 0 if part.operator == "nn.conv2d" else 1
                bias = "" if is_shared else _own_bias(graph, part)
                found[part.layer] = _Place(part.weight, axis, bias)
            case Recurrence():
                found[part.layer] = _Place(part.weight, 1)
            case _:
                raise UserError(f"the layer {part.layer!r} has no weight to prune: remove {sparsity}")
    return found


def _own_bias(graph: Graph, chain: Chain) -> str:
    """Name the bias of a layer if nothing else reads it."""
    named = [var for var in graph.weights if chain.bias_name and var.name == chain.bias_name]
    return chain.bias_name if named and len(graph.users(named[0])) == 1 else ""


def _gram(statistics: Statistics | None, layer: str, matrix: Floats) -> Gram | None:
    """Give the moments of a layer's inputs, or None if it is not as it was when they were seen."""
    grams = statistics.grams if statistics else {}
    if layer not in grams and layer.rpartition(".")[0] not in grams:
        raise UserError(
            f"pruning {layer!r} by its inputs, or repairing it, needs their moments: calibrate with "
            "this recipe, or set criterion = magnitude and repair = false in it"
        )
    gram = grams.get(layer)
    return gram if gram is not None and gram.columns == matrix.shape[1] else None


def _saliency(statistics: Statistics | None, layer: str, matrix: Floats) -> NDArray[np.float32] | None:
    """Give the importance of a layer's weights, or None if it is not as it was when they were seen."""
    known = statistics.saliencies if statistics else {}
    if layer not in known and layer.rpartition(".")[0] not in known:
        raise UserError(
            f"pruning {layer!r} by the criterion taylor needs gradients of what it gives: calibrate with "
            "this recipe, or choose magnitude, global, wanda or obc in it"
        )
    found = known[layer].weights if layer in known else None
    return found if found is not None and found.shape == matrix.shape else None


def _arrays(layer: Dense) -> tuple[Any, ...]:
    gram = () if layer.gram is None else (layer.gram.second_moment, layer.gram.mean)
    return (layer.matrix, *gram, *(() if layer.saliency is None else (layer.saliency,)))
