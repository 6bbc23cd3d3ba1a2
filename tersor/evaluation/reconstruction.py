"""Reconstruction: what a layer's weight and biases become under a scheme, written out densely.

factor > thin > round > multiply out

The passes of a compression do it, on the layer alone: given the statistics, no layer depends on another.
Calibration has not seen what flows between the factors of a layer; they are rounded as if that were float.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.factor import SVDSoftmax
from tersor.ir.chains import Chain, Gather
from tersor.ir.graph import Builder, Expr, Graph, Module, shape_of, weights_of
from tersor.ir.parts import Part, find_parts
from tersor.ir.recurrent import Recurrence
from tersor.ir.untyped import relax
from tersor.needs import grams_to_round
from tersor.passes.decomposition.composed import composed
from tersor.passes.decomposition.decompose import decompose
from tersor.passes.extract import layer_of, tensor_names
from tersor.passes.pruning.prune import prune
from tersor.passes.quantization.channel_steps import times_steps
from tersor.passes.quantization.quantize import correction_of
from tersor.passes.quantization.rounding.by_recipe import ByRecipe
from tersor.passes.quantization.tensors import MOST_BITS
from tersor.passes.quantization.weights import Steps, Weights
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.sparsity import Channels
from tersor.statistics import Statistics

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Numbers:
    """The weight of a layer, in the shape that it came in, and the bias [K] of each of its uses."""

    weight: Floats
    biases: tuple[Floats, ...] = ()


class Reconstruction:
    """Gives the numbers of the layers of a canonical float module, each scheme of each layer once.

    `statistics` are of the network as it came, with the Gram matrices that the recipe asks for. Raises
    UserError for a recipe that compresses layers together.
    """

    def __init__(self, mod: Module, statistics: Statistics, recipe: Recipe) -> None:
        check_recipe(recipe)
        self._graph, self._names = Graph(mod), tensor_names(mod)
        self._statistics, self._recipe = statistics, recipe
        self._known: dict[tuple[str, Scheme, Steps], Numbers] = {}

    @cached_property
    def parts(self) -> dict[str, list[Part]]:
        """The uses of each layer, by its name."""
        found: dict[str, list[Part]] = {}
        for part in find_parts(self._graph):
            found.setdefault(part.layer, []).append(part)
        return found

    @cached_property
    def tables(self) -> list[Gather]:
        """The lookups of rows in tables."""
        return [part for uses in self.parts.values() for part in uses if isinstance(part, Gather)]

    def numbers(self, layer: str, scheme: Scheme, steps: Steps = ()) -> Numbers | None:
        """Give what a layer multiplies with under a scheme; None of a product of activations.

        `steps` are those of the channels of its input, which its weight is rounded with. Raises UserError
        saying why the layer cannot have the scheme.
        """
        self.check(layer, scheme)
        if not layer_of(self.parts[layer][0]).weight_bearing:
            return None
        key = layer, scheme, steps
        if key not in self._known:
            self._known[key] = self._made(self.parts[layer], scheme, steps)
        return self._known[key]

    def check(self, layer: str, scheme: Scheme) -> None:
        """Raise UserError if the layer cannot have the scheme."""
        if layer not in self.parts:
            raise UserError(f"the network has no layer {layer!r}: name one of {', '.join(self.parts)}")
        if reason := _why_not(self.parts[layer][0], scheme):
            raise UserError(f"the layer {layer!r} cannot have the scheme {scheme}: {reason}")

    def _made(self, parts: list[Part], scheme: Scheme, steps: Steps) -> Numbers:
        first = parts[0]
        if not isinstance(first, Chain):
            stored = first.table if isinstance(first, Gather) else first.weight  # pyright: ignore[reportAttributeAccessIssue]
            weight = self._graph.weights[stored]
            axis = 0 if isinstance(first, Gather) else 1
            return Numbers(self._rounded(first, first.layer, weight, axis, scheme, ()))
        shape = shape_of(first.weight)
        factors, schemes, bias = self._reshaped(first, scheme)
        axis = 0 if first.operator == "nn.conv2d" else 1
        rounded = [
            self._rounded(first, name, weight, axis, schemes[name], () if scheme.factor else steps)
            for name, weight in factors.items()
        ]
        before, after = (
            composed(list(each), scheme.factor, shape) if scheme.factor else next(iter(each))
            for each in (factors.values(), rounded)
        )
        return Numbers(after, tuple(self._biases(parts, bias, scheme, before, after)))

    def _biases(
        self, parts: list[Part], bias: Floats | None, scheme: Scheme, before: Floats, after: Floats
    ) -> list[Floats]:
        """Give the bias of each use; `bias` is that of the first where thinning has changed it."""
        found = []
        for part in parts:
            assert isinstance(part, Chain)
            channels = shape_of(part.variables[0])[1 if part.operator == "nn.conv2d" else -1]
            own = np.zeros(channels, np.float32) if part.bias is None else part.bias
            if bias is not None and part is parts[0]:
                own = bias
            if scheme.weight and self._recipe.bias_correction:
                name = self._names[part.data]
                own = own + correction_of(part, before, after, self._to_round, name)
            found.append(own.astype(np.float32))
        return found

    def _reshaped(
        self, chain: Chain, scheme: Scheme
    ) -> tuple[dict[str, Floats], Mapping[str, Scheme], Floats | None]:
        """Factor and thin: the weights in order, their schemes, and the bias if nothing else reads it."""
        if not (scheme.factor or scheme.sparsity):
            return {chain.layer: self._graph.weights[chain.weight]}, {chain.layer: scheme}, None
        own = self._has_own_bias(chain)
        mod = alone(self._graph, chain, own)
        mod, schemes = decompose(mod, {chain.layer: scheme}, self._statistics, self._recipe)
        weights = weights_of(prune(mod, schemes, self._statistics, self._recipe))
        bias = weights[chain.bias_name].reshape(-1) if own else None
        return {name: weights[name] for name in schemes}, schemes, bias

    def _has_own_bias(self, chain: Chain) -> bool:
        named = [var for var in self._graph.weights if chain.bias_name and var.name == chain.bias_name]
        return bool(named) and len(self._graph.users(named[0])) == 1

    def _rounded(
        self, part: Part, name: str, weight: Floats, axis: int, scheme: Scheme, steps: Steps
    ) -> Floats:
        if scheme.weight is None:
            return weight
        tables = {name} if isinstance(part, Gather) else set()
        recurrent = {name} if isinstance(part, Recurrence) else set()
        recipe = self._recipe
        if name != part.layer and name in grams_to_round(recipe, {name: scheme}):
            recipe = replace(recipe, rounding="mse")  # of what factors read there are no Gram matrices
        rounding = ByRecipe(recipe, {name: scheme}, self._to_round, tables, recurrent)
        scales_rows = not isinstance(part, Chain)
        rounded = Weights(rounding).round(name, weight, axis, scheme, steps, scales_rows).numbers()
        return times_steps(rounded, tuple(1 / step for step in steps))

    @cached_property
    def _to_round(self) -> Statistics:
        """The statistics that a compression rounds by: without the Gram matrices that it would not have."""
        asked = grams_to_round(self._recipe, dict.fromkeys(self.parts, Scheme.parse("int8")))
        grams = {name: gram for name, gram in self._statistics.grams.items() if name in asked}
        return replace(self._statistics, grams=grams)


def check_recipe(recipe: Recipe) -> None:
    """Raise UserError for a recipe that compresses layers together, so that none has numbers of its own."""
    if recipe.equalize or recipe.smooth:
        raise UserError("layers that are equalized depend on each other: set equalize and smooth to none")
    if recipe.criterion == "global":
        raise UserError(
            'the criterion "global" thins all layers together: choose magnitude, wanda, obc or taylor'
        )


def alone(graph: Graph, chain: Chain, own_bias: bool) -> Module:
    """Give the module of a layer without its residual and activation; its bias is a weight if `own_bias`."""
    source = copy(graph)
    source.inputs = [relax.Var("x", relax.TensorType(shape_of(chain.data), "float32"))]
    source.returns_tuple, source.norm_scales = False, {}
    builder = Builder(source)
    weight = builder.weight(chain.layer, graph.weights[chain.weight])
    call = relax.Call(chain.call.op, [source.inputs[0], weight], chain.call.attrs, chain.call.ty_args)
    result: Expr = builder.emit(call)
    if chain.bias is not None:
        shape = (1, -1, 1, 1) if chain.operator == "nn.conv2d" else (-1,)
        bias = chain.bias.reshape(shape)
        stored = builder.weight(chain.bias_name, bias) if own_bias else relax.const(bias)
        result = builder.emit(relax.op.add(result, stored))
    return builder.finish([result])


def _why_not(part: Part, scheme: Scheme) -> str | None:
    """Say what of a scheme has no dense weight or does not go with the kind of layer."""
    layer = layer_of(part)
    if isinstance(scheme.sparsity, Channels) or isinstance(scheme.factor, SVDSoftmax):
        return f"{scheme.sparsity or scheme.factor} makes another network of it"
    if not layer.weight_bearing and (scheme.sparsity or scheme.factor or not scheme.input):
        return "it multiplies two activations and has no weight to compress" if scheme != Scheme() else None
    narrow = scheme.input is not None and scheme.input_bits < MOST_BITS
    if narrow and (scheme.dynamic or not isinstance(part, Chain)):
        return "it reads codes of 8 bits"
    if scheme.dynamic and not (isinstance(part, Chain) and part.operator == "matmul"):
        return "only dense layers find ranges row by row"
    if isinstance(part, Gather | Recurrence) and (scheme.sparsity or scheme.factor):
        return "it is neither thinned nor factored"
    if isinstance(part, Gather) and scheme.input:
        return "rows are looked up, not multiplied: its input is not rounded"
    return None
