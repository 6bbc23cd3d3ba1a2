"""Integer layers: a sum of products with its bias and what brings it to codes or to float, after Integerize.

    requantize(bias + conv2d(pad(x), w))         with a weight
    requantize_add(bias + matmul(x, w), y)       and a residual
    rescale_accumulator(product(a, b))           of two activations

Targets that have one kernel for all of it find it here.
"""

from dataclasses import dataclass

from tersor.ir.graph import Array, Expr, Graph, operator
from tersor.ir.operators import (
    Product,
    Requantize,
    RequantizeAdd,
    RescaleAccumulator,
    call_arguments,
    read_operator,
)

LastStep = Requantize | RequantizeAdd | RescaleAccumulator


@dataclass(frozen=True)
class IntegerLayer:
    """A convolution or a product with a weight, which is stored or decoded from what is.

    The uint8 `data` is padded with the code `zero_point`; bias int32 [K] and multiplier float32 [K].
    """

    call: Expr  # of nn.conv2d or matmul
    data: Expr
    zero_point: int
    padding: tuple[int, int, int, int]  # top, left, bottom, right
    weight: Expr
    bias: Array
    multiplier: Array
    residual: Expr | None
    step: LastStep
    result: Expr
    interior: tuple[Expr, ...]


@dataclass(frozen=True)
class IntegerProduct:
    """A product of the codes of two activations; multiplier float32 [K]."""

    layer: str
    product: Product
    left: Expr
    right: Expr
    multiplier: Array
    step: Requantize | RescaleAccumulator
    result: Expr
    interior: tuple[Expr, ...]


def integer_layer(graph: Graph, var: Expr, value: Expr) -> IntegerLayer | None:
    """Walk up from the requantization that `var` is bound to, or give None if there is no such layer."""
    step = read_operator(graph.mod, value)
    if not isinstance(step, LastStep):
        return None
    accumulator, scale, *residual = call_arguments(value)
    total = graph.definition(accumulator)
    if total is None or operator(total) != "add" or graph.only_user(accumulator) is None:
        return None
    product_var, bias_var = total.args
    product, bias, multiplier = graph.definition(product_var), graph.value(bias_var), graph.value(scale)
    if operator(product) not in ("nn.conv2d", "matmul") or bias is None or multiplier is None:
        return None
    if graph.only_user(product_var) is None:
        return None
    data, fill, padding, padded = _unpad(graph, product.args[0])
    return IntegerLayer(
        call=product,
        data=data,
        zero_point=fill,
        padding=padding,
        weight=product.args[1],
        bias=bias.reshape(-1),
        multiplier=multiplier,
        residual=residual[0] if residual else None,
        step=step,
        result=var,
        interior=(*padded, product_var, accumulator),
    )


def integer_product(graph: Graph, var: Expr, value: Expr) -> IntegerProduct | None:
    """Walk up from the requantization that `var` is bound to, or give None if no product is above it."""
    step = read_operator(graph.mod, value)
    if not isinstance(step, Requantize | RescaleAccumulator):
        return None
    accumulator, scale = call_arguments(value)
    product = graph.definition(accumulator)
    found = read_operator(graph.mod, product)
    if not isinstance(found, Product) or graph.only_user(accumulator) is None or scale not in graph.weights:
        return None
    name = scale.name.removesuffix(".multiplier").removesuffix(".rescale")
    left, right = call_arguments(product)
    multiplier = graph.weights[scale]
    return IntegerProduct(name, found, left, right, multiplier, step, var, (accumulator,))


def _unpad(graph: Graph, data: Expr) -> tuple[Expr, int, tuple[int, int, int, int], tuple[Expr, ...]]:
    """Look through the pad that stands before an integer convolution."""
    value = graph.definition(data)
    if value is None or operator(value) != "nn.pad" or graph.only_user(data) is None:
        return data, 0, (0, 0, 0, 0), ()
    widths = [int(width) for width in value.attrs.pad_width]
    top, bottom, left, right = widths[4:8]
    return value.args[0], int(value.attrs.pad_value), (top, left, bottom, right), (data,)
