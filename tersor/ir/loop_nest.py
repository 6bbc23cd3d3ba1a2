"""Loop nest: a call of a convolution or of a product with a weight, as the layer that it computes."""

from collections.abc import Iterable
from math import prod
from typing import Any

from tersor.ir.graph import Expr, operator, pair, shape_of
from tersor.layer import Layer


def layer_of_call(name: str, call: Expr, padding: Iterable[Any]) -> Layer:
    """Describe an `nn.conv2d` or a `matmul`; `padding` is what is padded, there or before it."""
    out, weight = shape_of(call), shape_of(call.args[1])
    if operator(call) == "matmul":
        return Layer(name, "matmul", N=prod(out[:-1]), K=weight[1], C=weight[0])
    top, left, bottom, right = (int(pad) for pad in padding)
    groups = int(call.attrs.groups)
    return Layer(
        name,
        "conv2d",
        N=out[0],
        G=groups,
        K=weight[0] // groups,
        C=weight[1],
        P=out[2],
        Q=out[3],
        R=weight[2],
        S=weight[3],
        stride=pair(call.attrs.strides),
        padding=(top, left, bottom, right),
        dilation=pair(call.attrs.dilation),
    )
