"""Sequences: one-dimensional convolutions and what stands between them, as images of height one.

    conv1d(x, w)           ->   reshape(conv2d(reshape(x, [N, C, 1, L]), w'), [N, K, L])    w' [K, C, 1, S]
    relu(reshape(y)), ...  ->   reshape(relu(y))

The reshapes move towards the outputs until they meet those of the next layer, and both are gone.
"""

from collections.abc import Callable
from typing import Any

from tersor.ir.graph import Expr, operator, shape_of
from tersor.ir.untyped import relax
from tersor.passes.canonicalize.walk import Walk

# Operators on one tensor, element by element, whatever its shape.
UNARY = (
    "abs",
    "clip",
    "erf",
    "exp",
    "negative",
    "nn.gelu",
    "nn.gelu_tanh",
    "nn.leakyrelu",
    "nn.relu",
    "nn.relu6",
    "nn.silu",
    "nn.softplus",
    "sigmoid",
    "sqrt",
    "square",
    "tanh",
)
BINARY = ("add", "divide", "maximum", "minimum", "multiply", "power", "subtract")


def conv1d(walk: Walk, call: Expr) -> Expr | None:
    """Convolve a sequence as an image of height one."""
    attrs = call.attrs
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCW", "OIW", "NCW"):
        return None
    left, right = (int(pad) for pad in attrs.padding)
    product = relax.op.nn.conv2d(
        _raised(walk, call.args[0]),
        _raised(walk, call.args[1]),
        strides=(1, int(attrs.strides[0])),
        padding=(0, left, 0, right),
        dilation=(1, int(attrs.dilation[0])),
        groups=attrs.groups,
        out_dtype=attrs.out_dtype,
    )
    return _lowered(walk, product, call)


def pool1d(walk: Walk, call: Expr) -> Expr | None:
    """Pool a sequence as an image of height one."""
    attrs = call.attrs
    if (attrs.layout, attrs.out_layout) != ("NCW", "NCW"):
        return None
    pool = relax.op.nn.max_pool2d if operator(call) == "nn.max_pool1d" else relax.op.nn.avg_pool2d
    left, right = (int(pad) for pad in attrs.padding)
    pooled = pool(
        _raised(walk, call.args[0]),
        pool_size=(1, int(attrs.pool_size[0])),
        strides=(1, int(attrs.strides[0])),
        padding=(0, left, 0, right),
        dilation=(1, int(attrs.dilation[0])),
        ceil_mode=attrs.ceil_mode,
        count_include_pad=attrs.count_include_pad,
    )
    return _lowered(walk, pooled, call)


def elementwise(walk: Walk, call: Expr) -> Expr | None:
    """Compute on the image that a sequence was, element by element; the other operand becomes one too."""
    count = 1 if operator(call) in UNARY else 2
    tensors = list(call.args[:count])
    if not any(_image(walk, tensor) is not None for tensor in tensors) or len(shape_of(call)) != 3:
        return None
    if any(len(shape_of(tensor)) not in (0, 1, 3) for tensor in tensors):
        return None  # of two axes, the first would stand beside the height
    args = [_raised(walk, tensor) for tensor in tensors]
    return _lowered(walk, relax.Call(call.op, [*args, *call.args[count:]], call.attrs), call)


def batch_norm(walk: Walk, item: Expr) -> Expr | None:
    """Normalise the channels of the image that a sequence was."""
    norm = walk.definition(item.tuple_value, "nn.batch_norm")
    image = None if norm is None else _image(walk, norm.args[0])
    if norm is None or image is None or norm.attrs.axis != 1 or item.index != 0:
        return None
    normed = walk.emit_inner(relax.Call(norm.op, [image, *norm.args[1:]], norm.attrs))
    return _lowered(walk, relax.TupleGetItem(normed, 0), item)


def mean(walk: Walk, call: Expr) -> Expr | None:
    """Average over the time of a sequence, which is an image, as over the whole image."""
    image, axes = _image(walk, call.args[0]), call.attrs.axis
    if image is None or axes is None or [int(axis) for axis in axes] not in ([2], [-1]):
        return None
    return _lowered(walk, relax.op.mean(image, [2, 3], keepdims=call.attrs.keepdims), call)


def pad(walk: Walk, call: Expr) -> Expr | None:
    """Pad the width of the image that a sequence was."""
    image = _image(walk, call.args[0])
    if image is None:
        return None
    widths = [int(width) for width in call.attrs.pad_width]
    widths = [*widths[:4], 0, 0, *widths[4:]]
    value: Any = call.attrs.pad_value
    return _lowered(walk, relax.op.nn.pad(image, widths, call.attrs.pad_mode, float(value)), call)


def concat(walk: Walk, call: Expr) -> Expr | None:
    """Join the images that sequences were."""
    fields = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else ()
    images = [_image(walk, field) for field in fields]
    if not images or any(image is None for image in images) or call.attrs.axis is None:
        return None
    axis = int(call.attrs.axis) % 3
    return _lowered(walk, relax.op.concat(images, 3 if axis == 2 else axis), call)


def _image(walk: Walk, expr: Expr) -> Expr | None:
    """Give the [N, C, 1, L] that `expr` [N, C, L] is a reshape of."""
    call = walk.definition(expr, "reshape", "squeeze")
    if call is None or len(shape_of(call)) != 3:
        return None
    batch, channels, length = shape_of(call)
    return call.args[0] if shape_of(call.args[0]) == (batch, channels, 1, length) else None


def _raised(walk: Walk, expr: Expr) -> Expr:
    """Give an operand [N, C, L] as [N, C, 1, L], where it is a reshape of that; a scalar or row as it is."""
    shape = shape_of(expr)
    if len(shape) != 3:
        return expr
    image = _image(walk, expr)
    if image is not None:
        return image
    array = walk.array(expr)
    shape = (*shape[:2], 1, shape[2])
    if array is None:
        return walk.emit_inner(relax.op.reshape(expr, shape))
    if isinstance(expr, relax.Var):
        return walk.weight(array.reshape(shape), expr.name)
    return relax.const(array.reshape(shape), str(array.dtype))


def _lowered(walk: Walk, image: Expr, call: Expr) -> Expr:
    return relax.op.reshape(walk.emit_inner(image), shape_of(call))


RULES: dict[str, Callable[[Walk, Expr], Expr | None]] = {
    "nn.conv1d": conv1d,
    "nn.max_pool1d": pool1d,
    "nn.avg_pool1d": pool1d,
    "nn.pad": pad,
    "mean": mean,
    "concat": concat,
    **dict.fromkeys((*UNARY, *BINARY), elementwise),
}
