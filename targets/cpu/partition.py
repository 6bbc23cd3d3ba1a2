"""Partition: find what the CPU has one kernel for, a layer with its epilogue.

requantize(bias + conv2d(pad(x), w))      one integer kernel
requantize(product(a, b))                 one integer kernel on the views that a and b are
clip(residual + (bias + conv2d(x, w)))    one float kernel
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tersor.arithmetic import FRACTION, SYMMETRIC_ZERO, TERM_LIMIT
from tersor.ir.chains import Chain, Product, find_chains, find_products
from tersor.ir.graph import Array, Expr, Graph, axes_of, operator, shape_of
from tersor.ir.integer_layers import LastStep, integer_layer, integer_product
from tersor.ir.operators import Requantize, RequantizeAdd, RescaleAccumulator
from tersor.targets.cpu.kernels import epilogue as cpu
from tersor.targets.cpu.layout.views import View, view_behind


@dataclass(frozen=True)
class Composite:
    """A layer and what follows it, as one kernel computes them."""

    layer: str
    operator: str  # "nn.conv2d" or "matmul"
    attributes: Any
    data: Expr
    zero_point: int  # the code that pads `data`
    padding: tuple[int, int, int, int]
    weight: Array  # [K, C, R, S] or [C, K]
    bias: Array  # [K], int32 or float32
    multiplier: Array | None  # [K], float32
    residual: Expr | None
    epilogue: cpu.Epilogue
    result: Expr
    interior: frozenset[Expr]


def partition(graph: Graph) -> dict[Expr, Composite]:
    """Find all composites, by the variable of their result."""
    found = [*_integer(graph), *(_float(graph, chain) for chain in find_chains(graph))]
    return {composite.result: composite for composite in found if composite is not None}


def _integer(graph: Graph) -> list[Composite | None]:
    return [_integer_composite(graph, var, value) for var, value in graph.bindings]


def _integer_composite(graph: Graph, var: Expr, value: Expr) -> Composite | None:
    layer = integer_layer(graph, var, value)
    weight = None if layer is None else graph.value(layer.weight)
    if layer is None or weight is None:
        return None
    epilogue, name = _epilogue(layer.step), operator(layer.call)
    if isinstance(epilogue, cpu.Requantize) and _is_small(epilogue.residual):
        steps = layer.multiplier if epilogue.residual is None else layer.multiplier * FRACTION
        epilogue = replace(epilogue, bounded=_is_bounded(weight, name, layer.bias, steps))
    return Composite(
        layer=layer.weight.name,
        operator=name,
        attributes=layer.call.attrs,
        data=layer.data,
        zero_point=layer.zero_point,
        padding=layer.padding,
        weight=weight,
        bias=layer.bias,
        multiplier=layer.multiplier,
        residual=layer.residual,
        epilogue=epilogue,
        result=var,
        interior=frozenset(layer.interior),
    )


def _epilogue(step: LastStep) -> cpu.Epilogue:
    match step:
        case Requantize(zero_point, bounds, _):
            return cpu.Requantize(zero_point, bounds)
        case RequantizeAdd(multiplier, residual_zero_point, zero_point, bounds, _):
            return cpu.Requantize(zero_point, bounds, cpu.Residual(multiplier, residual_zero_point))
        case RescaleAccumulator():
            return cpu.Rescale()


@dataclass(frozen=True)
class ProductComposite:
    """A product of two activations and what follows it, as one kernel computes them.

    `left`, `right` and `out` are views of the tensors behind the operands and of the result.
    """

    layer: str
    operands: tuple[Expr, Expr]
    left: View
    right: View
    out: View
    zero_point: int  # of the left operand
    multiplier: Array | None  # [K], float32
    epilogue: cpu.Epilogue
    result: Expr
    interior: frozenset[Expr]


def partition_products(graph: Graph) -> dict[Expr, ProductComposite]:
    """Find the products of activations that a kernel computes, by the variable of their result."""
    found = [_integer_product(graph, var, value) for var, value in graph.bindings]
    found += [_float_product(graph, product) for product in find_products(graph)]
    composites = [composite for composite in found if composite is not None]
    return {composite.result: composite for composite in composites}


def _integer_product(graph: Graph, var: Expr, value: Expr) -> ProductComposite | None:
    found = integer_product(graph, var, value)
    if found is None or found.product.b_zero_point != SYMMETRIC_ZERO:
        return None
    return _product(
        graph,
        found.layer,
        found.left,
        found.right,
        var,
        _epilogue(found.step),
        found.product.a_zero_point,
        found.multiplier,
        found.interior,
    )


def _float_product(graph: Graph, product: Product) -> ProductComposite | None:
    if str(product.result.ty.dtype) != "float32":
        return None
    return _product(
        graph, product.layer, product.left, product.right, product.result, cpu.Activation(), 0, None, ()
    )


def _product(
    graph: Graph,
    layer: str,
    left: Expr,
    right: Expr,
    result: Expr,
    epilogue: cpu.Epilogue,
    zero_point: int,
    multiplier: Array | None,
    interior: tuple[Expr, ...],
) -> ProductComposite | None:
    if not shape_of(left)[:-2] == shape_of(right)[:-2] == shape_of(result)[:-2]:
        return None
    (left, left_view), (right, right_view) = view_behind(graph, left), view_behind(graph, right)
    out = View.of(shape_of(result))
    user = graph.only_user(result)
    transpose = graph.definition(user) if user is not None else None
    if operator(transpose) == "permute_dims":
        seen = View.of(shape_of(user)).untransposed(axes_of(transpose))
        if seen.strides[-1] == 1:
            out, interior, result = seen, (*interior, result), user
    return ProductComposite(
        layer,
        (left, right),
        left_view,
        right_view,
        out,
        zero_point,
        multiplier,
        epilogue,
        result,
        frozenset(interior),
    )


def _is_bounded(weight: Array, name: str, bias: Array, multiplier: Array) -> bool:
    """Whether no uint8 input can bring a scaled accumulator out of the range of safe conversions."""
    axes = (1, 2, 3) if name == "nn.conv2d" else (0,)
    largest = 255.0 * np.abs(weight.astype(np.float64)).sum(axis=axes) + np.abs(bias.astype(np.float64))
    return bool((largest * multiplier < cpu.SAFE).all())


def _is_small(residual: cpu.Residual | None) -> bool:
    """Whether no residual code can bring back a sum that the other term saturates."""
    return residual is None or 255 * residual.multiplier * FRACTION <= TERM_LIMIT / 2


def _float(graph: Graph, chain: Chain) -> Composite | None:
    if str(chain.data.ty.dtype) != "float32" or graph.weights[chain.weight].dtype != np.float32:
        return None
    weight = graph.weights[chain.weight]
    channels = weight.shape[0 if chain.operator == "nn.conv2d" else 1]
    low, high = chain.limits
    is_conv = chain.operator == "nn.conv2d"
    padding = tuple(int(pad) for pad in chain.attributes.padding) if is_conv else (0, 0, 0, 0)
    return Composite(
        layer=chain.layer,
        operator=chain.operator,
        attributes=chain.attributes,
        data=chain.data,
        zero_point=0,
        padding=(padding[0], padding[1], padding[2], padding[3]),
        weight=weight,
        bias=np.zeros(channels, np.float32) if chain.bias is None else chain.bias.astype(np.float32),
        multiplier=None,
        residual=chain.residual,
        epilogue=cpu.Activation(low, high, chain.residual is not None),
        result=chain.result,
        interior=frozenset(chain.interior),
    )


def is_convolution_input(composites: dict[Expr, Composite], var: Expr) -> bool:
    """Whether a convolution kernel reads `var`."""
    return any(
        composite.operator == "nn.conv2d" and composite.data.same_as(var) for composite in composites.values()
    )
