"""Decompose: factor the weights of convolutions and dense layers into chains of layers.

    conv2d(x, w) + b   ->   conv2d(conv2d(x, w0), w1) + b
    matmul(x, w) + b   ->   matmul(matmul(x, w0), w1) + b

The factors are layers of their own, named `<layer>.0`, `<layer>.1`, ... as `Layer.factored` has them; the
rest of the scheme holds for each. Bias, residual and activation stay behind the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tersor.error import UserError
from tersor.factor import Factor, SVDSoftmax, TensorTrain, Train, why_no_chain
from tersor.ir.chains import Chain, find_chains
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, rebind, shape_of
from tersor.ir.untyped import relax
from tersor.layer import Layer
from tersor.passes.decomposition.factor_weight import factor_weight
from tersor.passes.extract import layer_of
from tersor.passes.memo import remembered
from tersor.recipe import Recipe
from tersor.scheme import FP32, W8A32, Scheme
from tersor.statistics import Statistics


def decompose(
    mod: Module,
    schemes: Mapping[str, Scheme],
    statistics: Statistics | None = None,
    recipe: Recipe | None = None,
) -> tuple[Module, dict[str, Scheme]]:
    """Factor the layers whose scheme has a factor; give the module and the schemes of its layers.

    Where the recipe says `data_aware` and the statistics have the Gram matrix of a layer, its output's error
    is lessened instead of its weight's. Raises UserError for a factor that a layer cannot have.
    """
    if not any(scheme.factor for scheme in schemes.values()):
        return mod, dict(schemes)
    return _Decomposition(Graph(mod), schemes, _second_moments(statistics, recipe)).run()


def _second_moments(statistics: Statistics | None, recipe: Recipe | None) -> Mapping[str, Array]:
    if statistics is None or recipe is None or not recipe.data_aware:
        return {}
    return {name: gram.second_moment[0] for name, gram in statistics.grams.items() if gram.groups == 1}


class _Decomposition:
    """A module that is written anew, with chains in place of some layers."""

    def __init__(
        self, graph: Graph, schemes: Mapping[str, Scheme], second_moments: Mapping[str, Array]
    ) -> None:
        self.graph, self.builder, self.schemes = graph, Builder(graph), schemes
        self.second_moments = second_moments
        self.weights: dict[str, tuple[Array, ...]] = {}

    def run(self) -> tuple[Module, dict[str, Scheme]]:
        graph, builder = self.graph, self.builder
        heads = {
            chain.variables[0]: chain
            for chain in find_chains(graph)
            if self.schemes.get(chain.layer, Scheme()).factor
        }
        factored = {chain.layer for chain in heads.values()}
        values: dict[Expr, Expr] = {var: var for var in graph.inputs}
        for var, weight in graph.weights.items():
            if var.name not in factored:
                values[var] = builder.weight(var.name, weight)
        parts: dict[str, list[str]] = {}
        for var, value in graph.bindings:
            if var in heads:
                chain = heads[var]
                result, parts[chain.layer] = self._factored(chain, values[chain.data])
                values[var] = builder.emit(result, var.name)
            else:
                values[var] = builder.emit(rebind(value, values), var.name)
        mod = builder.finish([values[output] for output in graph.outputs])
        return mod, _of_parts(self.schemes, parts)

    def _factored(self, chain: Chain, data: Expr) -> tuple[Expr, list[str]]:
        """Write the layers of a chain; give the expression of the last and all names."""
        name, layer = chain.layer, layer_of(chain)
        factor = self.schemes[name].factor
        assert factor
        if reason := why_no_chain(layer, factor):
            raise UserError(f"the layer {name!r} cannot have the scheme {self.schemes[name]}: {reason}")
        if name not in self.weights:
            weight = self.graph.weights[chain.weight]
            moment = self.second_moments.get(name)
            self.weights[name] = remembered(
                lambda: factor_weight(weight, factor, None if moment is None else moment.astype(np.float64)),
                weight.nbytes,
                "factor_weight",
                weight,
                factor,
                moment,
            )
        parts = layer.factored(factor)
        weights = [
            self.builder.weight(part.name, weight)
            for part, weight in zip(parts, self.weights[name], strict=True)
        ]
        return self._written(chain, factor, parts, weights, data), [part.name for part in parts]

    def _written(
        self, chain: Chain, factor: Factor, parts: Sequence[Layer], weights: Sequence[Expr], data: Expr
    ) -> Expr:
        if isinstance(factor, TensorTrain):
            return self._train(factor.train(*shape_of(chain.weight)), weights, data)
        if isinstance(factor, SVDSoftmax):
            return self._previewed(chain, factor, weights, data)
        for part, weight in zip(parts[:-1], weights[:-1], strict=True):
            data = self.builder.emit(_applied(part, data, weight))
        return _applied(parts[-1], data, weights[-1])

    def _previewed(self, chain: Chain, factor: SVDSoftmax, weights: Sequence[Expr], data: Expr) -> Expr:
        """Write the outputs of the preview, the chosen ones among them worked out in full."""
        if chain.residual is not None or chain.limits != (None, None):
            raise UserError(
                f"the layer {chain.layer!r} cannot have the scheme {self.schemes[chain.layer]}: "
                "its outputs are no scores, something is added to them or they are clipped"
            )
        emit, (rotation, columns, table) = self.builder.emit, weights
        rotated = emit(relax.op.matmul(data, rotation))
        last = len(shape_of(rotated)) - 1
        head = emit(relax.op.strided_slice(rotated, [last], [0], [factor.preview]))
        preview = emit(relax.op.matmul(head, columns))
        scores = preview
        if chain.bias is not None:
            scores = emit(relax.op.add(preview, relax.const(chain.bias)))
        chosen = emit(relax.op.topk(scores, factor.full, last, "indices", dtype="int64"))
        rows = emit(relax.op.take(table, chosen, 0, "clip"))
        products = emit(relax.op.multiply(rows, emit(relax.op.expand_dims(rotated, last))))
        exact = emit(relax.op.sum(products, [last + 1]))
        return relax.op.scatter_elements(preview, chosen, exact, last)

    def _train(self, train: Train, weights: Sequence[Expr], data: Expr) -> Expr:
        """Multiply with the cores: the axes are [rows, input modes left, output modes so far, rank]."""
        emit, count = self.builder.emit, len(train.inputs)
        shape = shape_of(data)
        rows = int(np.prod(shape[:-1]))
        data = emit(relax.op.reshape(data, (rows, *train.inputs, 1)))
        for i, weight in enumerate(weights):
            taken = count - i  # the axis of the last input mode that is left
            order = [axis for axis in range(count + 1) if axis != taken] + [taken, count + 1]
            if order != sorted(order):
                data = emit(relax.op.permute_dims(data, order))
            lead = shape_of(data)[:-2]
            data = emit(relax.op.reshape(data, (*lead, shape_of(weight)[0])))
            data = emit(relax.op.matmul(data, weight))
            data = emit(relax.op.reshape(data, (*lead, train.outputs[i], train.ranks[i + 1])))
        return relax.op.reshape(data, (*shape[:-1], int(np.prod(train.outputs))))


def _applied(layer: Layer, data: Expr, weight: Expr) -> Expr:
    if layer.operator == "matmul":
        return relax.op.matmul(data, weight)
    return relax.op.nn.conv2d(
        data,
        weight,
        strides=list(layer.stride),
        padding=list(layer.padding),
        dilation=list(layer.dilation),
        groups=layer.G,
    )


def _of_parts(schemes: Mapping[str, Scheme], parts: Mapping[str, Sequence[str]]) -> dict[str, Scheme]:
    result = {name: scheme for name, scheme in schemes.items() if name not in parts}
    for name, factors in parts.items():
        rest = replace(schemes[name], factor=None)
        result |= dict.fromkeys(factors, rest)
        if isinstance(schemes[name].factor, SVDSoftmax):  # a table is looked up, not multiplied
            result[factors[-1]] = W8A32 if rest.weight else FP32
    return dict(sorted(result.items()))
