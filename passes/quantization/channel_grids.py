"""Channel grids: move scales per channel out of an activation, into the weights on both sides of it.

    depthwise(dequantize(quantize(conv2d(x, w), s), s), v)
        ->   depthwise(dequantize(quantize(conv2d(x, w / s), 1), 1), v * s)

NNCF quantizes the input of depthwise convolutions like this. With scales that are the weights' own, all
channels have one grid, and the codes are the same. Where something else reads the tensor, or a clip cuts
channels at different codes, the scales stay and the layer runs in float.
"""

from dataclasses import dataclass

import numpy as np

from tersor.arithmetic import UINT8
from tersor.ir.chains import Chain, find_chains
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operator, rebind, shape_of
from tersor.ir.grid import Grid
from tersor.ir.untyped import relax
from tersor.passes.quantization.quantize import constants


@dataclass(frozen=True)
class _Link:
    """A layer, the quantize and dequantize of its result, and the depthwise layer behind them."""

    producer: Chain
    quantize: Expr
    dequantize: Expr
    consumer: Chain
    scale: Array  # [channels]
    zero_point: int

    @property
    def sums(self) -> Expr:
        """The producer's result before its activation."""
        has_activation = self.producer.limits != (None, None)
        return self.producer.variables[-2 if has_activation else -1]


def move_channel_grids(mod: Module) -> Module:
    """Give activations before depthwise layers one grid where their scales can move."""
    graph = Graph(mod)
    links = _find_links(graph)
    if not links:
        return mod
    weights = dict(graph.weights)
    for link in links:
        scale = link.scale.astype(np.float64)
        weights[link.producer.weight] = _scaled(weights[link.producer.weight], 1 / scale)
        repeats = len(weights[link.consumer.weight]) // len(scale)
        weights[link.consumer.weight] = _scaled(weights[link.consumer.weight], np.repeat(scale, repeats))
    return _rewrite(graph, weights, links)


def _rewrite(graph: Graph, weights: dict[Expr, Array], links: list[_Link]) -> Module:
    builder = Builder(graph)
    quantizes = {link.quantize: link for link in links}
    dequantizes = {link.dequantize: link for link in links}
    biases = {link.producer.variables[1]: link for link in links if link.producer.bias is not None}
    # What an activation of the layer cuts off, the ends of the codes cut off at the same place.
    dropped = {link.producer.result for link in links if link.producer.result is not link.sums}
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    for var, weight in weights.items():
        if any(user not in biases for user in graph.users(var)) or graph.is_output(var):
            values[var] = builder.weight(var.name, weight)
    for var, value in graph.bindings:
        if var in dropped:
            continue
        if (link := biases.get(var)) is not None:
            replaced = relax.op.add(values[link.producer.variables[0]], _scaled_bias(builder, link))
        elif (link := quantizes.get(var)) is not None:
            replaced = relax.op.quantize(
                values[link.sums], *constants(1.0, link.zero_point), out_dtype="uint8"
            )
        elif (link := dequantizes.get(var)) is not None:
            replaced = relax.op.dequantize(values[link.quantize], *constants(1.0, link.zero_point))
        else:
            replaced = rebind(value, values)
        values[var] = builder.emit(replaced, var.name)
    return builder.finish([values[output] for output in graph.outputs])


def _find_links(graph: Graph) -> list[_Link]:
    chains = find_chains(graph)
    # A weight or a bias that others read, too, cannot take up the scales of one of them.
    single = [
        chain for chain in chains if chain.operator == "nn.conv2d" and len(graph.users(chain.weight)) == 1
    ]
    by_result = {chain.result: chain for chain in single if chain.residual is None}
    by_data = {chain.data: chain for chain in single}
    links = [
        _link(graph, by_result.get(value.args[0]), var, by_data)
        for var, value in graph.bindings
        if operator(value) == "quantize" and str(var.ty.dtype) == "uint8"
    ]
    return [link for link in links if link is not None]


def _link(graph: Graph, producer: Chain | None, quantize: Expr, by_data: dict[Expr, Chain]) -> _Link | None:
    dequantize = graph.only_user(quantize)
    if producer is None or dequantize is None or graph.only_user(producer.result) is None:
        return None
    consumer = by_data.get(dequantize)
    if consumer is None or graph.only_user(dequantize) is None or consumer is producer:
        return None
    channels = shape_of(quantize)[1]
    if int(consumer.attributes.groups) != channels or int(graph.definition(quantize).attrs.axis) != 1:
        return None
    scale, zero_point = (graph.value(argument) for argument in graph.definition(quantize).args[1:3])
    if scale is None or zero_point is None or scale.shape != (channels,) or np.ptp(zero_point):
        return None
    back = [graph.value(argument) for argument in graph.definition(dequantize).args[1:3]]
    if any(b is None or not np.array_equal(a, b) for a, b in zip((scale, zero_point), back, strict=True)):
        return None
    point = int(zero_point.ravel()[0])
    cut = [Grid(float(each), point).bounds(producer.limits) for each in scale]
    return _Link(producer, quantize, dequantize, consumer, scale, point) if set(cut) == {UINT8} else None


def _scaled(weight: Array, factors: Array) -> Array:
    return (weight * factors.reshape(-1, 1, 1, 1)).astype(np.float32)


def _scaled_bias(builder: Builder, link: _Link) -> Expr:
    chain = link.producer
    assert chain.bias is not None
    bias = (chain.bias / link.scale.astype(np.float64)).astype(np.float32)
    return builder.weight(chain.bias_name or f"{chain.layer}.bias", bias.reshape(1, -1, 1, 1))
