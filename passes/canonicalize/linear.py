"""Linear: a convolution or matrix product with a constant weight, into which factors and shifts go."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tersor.ir.graph import Array, Expr, operator
from tersor.passes.canonicalize.walk import Walk


@dataclass
class Linear:
    """A convolution or matrix product with a constant weight, and the bias added to it if there is one.

    `norm_scale` is the factor of the batch norm that went into it, if one did.
    """

    call: Expr
    weight: Array
    name: str
    bias: Array | None = None  # [K]
    bias_name: str | None = None
    norm_scale: Array | None = None  # [K]

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return operator(self.call) == "nn.conv2d"

    @property
    def channels(self) -> int:
        """The output channels, K."""
        return self.weight.shape[0 if self.is_conv else 1]

    def per_channel(self, array: Array) -> NDArray[np.float64] | None:
        """Return `array` as one number per output channel, [K], or None if it varies along another axis."""
        rank = len(self.call.ty.shape)
        axis = 1 if self.is_conv else rank - 1
        if array.ndim > rank:
            return None
        shape = (1,) * (rank - array.ndim) + array.shape
        others = shape[:axis] + shape[axis + 1 :]
        if any(size != 1 for size in others) or shape[axis] not in (1, self.channels):
            return None
        return np.broadcast_to(array.astype(np.float64).ravel(), self.channels)

    def bias_shape(self) -> tuple[int, ...]:
        """Give the shape that a bias has in canonical form."""
        return (1, self.channels, 1, 1) if self.is_conv else (self.channels,)


def linear(walk: Walk, expr: Expr) -> Linear | None:
    """Return the linear layer that makes `expr` and is read by nothing else."""
    if not walk.read_once(expr):
        return None
    if (add := walk.definition(expr, "add")) is not None:
        layer = linear(walk, add.args[0])
        bias = walk.array(add.args[1])
        if layer is None or layer.bias is not None or bias is None:
            return None
        if (per_channel := layer.per_channel(bias)) is None:
            return None
        layer.bias = per_channel
        layer.bias_name = add.args[1].name if isinstance(add.args[1], relax.Var) else None
        return layer
    call = walk.definition(expr, "nn.conv2d", "matmul")
    return bare_linear(walk, call) if call is not None else None


def bare_linear(walk: Walk, call: Expr) -> Linear | None:
    """Return a call as a linear layer if it has a float weight in the usual layout."""
    weight = walk.array(call.args[1])
    if weight is None or weight.dtype != np.float32 or call.ty.dtype != "float32":
        return None
    if operator(call) == "nn.conv2d":
        if (call.attrs.data_layout, call.attrs.kernel_layout) != ("NCHW", "OIHW"):
            return None
    elif weight.ndim != 2:
        return None
    name = call.args[1].name if isinstance(call.args[1], relax.Var) else "weight"
    return Linear(call, weight, name, norm_scale=walk.norm_scales.get(call.args[1]))


def scaled(walk: Walk, layer: Linear, scale: Array | float = 1.0, shift: Array | float = 0.0) -> Expr:
    """Return `layer * scale + shift`, both per output channel, as one linear layer."""
    scale = np.broadcast_to(np.asarray(scale, np.float64), layer.channels)
    weight, call = layer.weight, layer.call
    args = list(call.args)
    if not np.all(scale == 1):
        axes = (-1, 1, 1, 1) if layer.is_conv else (1, -1)
        args[1] = walk.weight((weight * scale.reshape(axes)).astype(np.float32), layer.name)
    if layer.norm_scale is not None:
        walk.norm_scales[args[1]] = layer.norm_scale
    call = relax.Call(call.op, args, call.attrs)
    bias = np.zeros(layer.channels) if layer.bias is None else layer.bias
    bias = bias * scale + shift
    if layer.bias is None and not np.any(bias):
        return call
    product = walk.emit_inner(call)
    name = layer.bias_name or f"{layer.name.removesuffix('.weight')}.bias"
    return relax.op.add(product, walk.weight(bias.astype(np.float32).reshape(layer.bias_shape()), name))
