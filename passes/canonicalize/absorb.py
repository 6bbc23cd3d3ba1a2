"""Absorb: what stands around a linear layer and can be part of its weight, bias or padding.

multiply(conv2d(x, w), s), add(s, ...)   ->   s and t go into w' and b'
batch_norm(conv2d(x, w), ...)[0]         ->   add(conv2d(x, w'), b')      its gamma is kept
conv2d(nn.pad(x, zeros), w)              ->   conv2d(x, w, padding=...)
matmul(multiply(x, 2), w)                ->   matmul(x, 2 w)
"""

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tersor.ir.graph import Expr
from tersor.passes.canonicalize.linear import Linear, bare_linear, linear, scaled
from tersor.passes.canonicalize.walk import Walk


def without_pad(walk: Walk, call: Expr) -> Expr | None:
    """Let a convolution pad with zeros itself."""
    pad = walk.definition(call.args[0], "nn.pad")
    if pad is None or pad.attrs.pad_mode != "constant" or float(pad.attrs.pad_value) != 0:
        return None
    width = [int(n) for n in pad.attrs.pad_width]
    if any(width[:4]) or min(width) < 0 or call.attrs.data_layout != "NCHW":
        return None
    top, bottom, left, right = width[4:]
    attrs = call.attrs
    padding = [int(p) + extra for p, extra in zip(attrs.padding, (top, left, bottom, right), strict=True)]
    return relax.op.nn.conv2d(
        pad.args[0],
        call.args[1],
        strides=attrs.strides,
        padding=tuple(padding),
        dilation=attrs.dilation,
        groups=attrs.groups,
        data_layout=attrs.data_layout,
        kernel_layout=attrs.kernel_layout,
        out_layout=attrs.out_layout,
        out_dtype=attrs.out_dtype,
    )


def without_input_scale(walk: Walk, call: Expr) -> Expr | None:
    """Move a scalar factor of the input, as Gemm's alpha, into the weight."""
    product = walk.definition(call.args[0], "multiply")
    layer = bare_linear(walk, call)
    if product is None or layer is None or not walk.read_once(call.args[0]):
        return None
    factor = walk.array(product.args[1])
    if factor is None or factor.size != 1 or factor.ndim > len(product.args[0].ty.shape):
        return None
    weight = walk.weight((layer.weight * np.float64(factor.item())).astype(np.float32), layer.name)
    if layer.norm_scale is not None:
        walk.norm_scales[weight] = layer.norm_scale
    return relax.Call(call.op, [product.args[0], weight], call.attrs)


def add(walk: Walk, call: Expr) -> Expr | None:
    """Put a constant second, and into the bias of the layer it is added to."""
    x, shift = call.args
    if walk.array(x) is not None and walk.array(shift) is None:
        return relax.op.add(shift, x)
    layer, constant = _channelwise(walk, call)
    if layer is None:
        return None
    if layer.bias is None and isinstance(shift, relax.Var):
        if walk.weights[shift].shape == layer.bias_shape():
            return None
        layer.bias_name = shift.name
    return scaled(walk, layer, shift=constant)


def subtract(walk: Walk, call: Expr) -> Expr | None:
    """Take a constant from the bias."""
    layer, constant = _channelwise(walk, call)
    return None if layer is None else scaled(walk, layer, shift=-constant)


def multiply(walk: Walk, call: Expr) -> Expr | None:
    """Put a constant second, and into the weight and bias of the layer it multiplies."""
    x, factor = call.args
    if walk.array(x) is not None and walk.array(factor) is None:
        return relax.op.multiply(factor, x)
    layer, constant = _channelwise(walk, call)
    return None if layer is None else scaled(walk, layer, scale=constant)


def divide(walk: Walk, call: Expr) -> Expr | None:
    """Put a constant divisor into the weight and bias."""
    layer, constant = _channelwise(walk, call)
    return None if layer is None or not np.all(constant) else scaled(walk, layer, scale=1 / constant)


def batch_norm(walk: Walk, item: Expr) -> Expr | None:
    """Put the result of a batch norm into the layer before it; without one it is a product and a sum."""
    norm = walk.definition(item.tuple_value, "nn.batch_norm")
    if norm is None or norm.attrs.training or item.index != 0:
        return None
    parameters = [walk.array(a) for a in norm.args[1:]]
    if any(p is None for p in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    attrs = norm.attrs
    scale = (gamma if attrs.scale else 1.0) / np.sqrt(variance + attrs.epsilon)
    shift = (beta if attrs.center else 0.0) - mean * scale
    x = norm.args[0]
    layer = linear(walk, x)
    rank = len(x.ty.shape)
    if layer is not None and attrs.axis == (1 if layer.is_conv else rank - 1):
        layer.norm_scale = gamma.astype(np.float32) if attrs.scale else np.ones(layer.channels, np.float32)
        return scaled(walk, layer, scale, shift)
    shape = [1] * rank
    shape[attrs.axis] = -1
    names = [a.name if isinstance(a, relax.Var) else "batch_norm" for a in norm.args[1:3]]
    product = walk.emit_inner(
        relax.op.multiply(x, walk.weight(scale.astype(np.float32).reshape(shape), names[0]))
    )
    return relax.op.add(product, walk.weight(shift.astype(np.float32).reshape(shape), names[1]))


def _channelwise(walk: Walk, call: Expr) -> tuple[Linear | None, NDArray[np.float64]]:
    """Return the linear layer whose channels a call combines with constants, and these, [K]."""
    x, other = call.args
    constant = walk.array(other)
    layer = None if constant is None else linear(walk, x)
    per_channel = None if layer is None or constant is None else layer.per_channel(constant)
    return (None, np.empty(0)) if per_channel is None else (layer, per_channel)
