"""Parts: a piece of a split is a slice; a slice of a weight, as of three projections in one, is a weight."""

import numpy as np

from tersor.ir.graph import Array, Expr, shape_of
from tersor.ir.untyped import relax
from tersor.passes.canonicalize.walk import Walk


def split_item(walk: Walk, item: Expr) -> Expr | None:
    """Make one piece of a split a slice, which each reader can look through by itself."""
    split = walk.definition(item.tuple_value, "split")
    if split is None:
        return None
    # The pieces before this one say where it begins: `split` takes a count or a list of positions.
    axis = int(split.attrs.axis) % len(shape_of(split.args[0]))
    extents = [int(piece.shape[axis]) for piece in list(item.tuple_value.ty.fields)[: item.index + 1]]
    return relax.op.strided_slice(split.args[0], [axis], [sum(extents[:-1])], [sum(extents)])


def inside_table(walk: Walk, take: Expr) -> Expr | None:
    """Let an index beyond a table read its last row, where TVM's default reads foreign memory."""
    if str(take.attrs.mode) != "fast":
        return None
    return relax.op.take(take.args[0], take.args[1], take.attrs.axis, "clip")


def strided_slice(walk: Walk, call: Expr) -> Expr | None:
    """Compute a slice of a weight."""
    array = walk.array(call.args[0])
    if array is None or not all(isinstance(argument, relax.Tuple) for argument in call.args[1:]):
        return None
    axes, begin, end, *rest = ([int(field.value) for field in argument.fields] for argument in call.args[1:])
    strides = rest[0] if rest else [1] * len(axes)
    slices = [slice(None)] * array.ndim
    for axis, first, last, step in zip(axes, begin, end, strides, strict=True):
        slices[axis % array.ndim] = slice(first, last, step)
    result = array[tuple(slices)]
    return _part(walk, call.args[0], result) if result.shape == shape_of(call) else None


def _part(walk: Walk, whole: Expr, part: Array) -> Expr:
    part = np.ascontiguousarray(part)
    if isinstance(whole, relax.Var):
        return walk.weight(part, whole.name)
    return relax.const(part, str(part.dtype))
