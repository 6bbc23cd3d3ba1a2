"""Identities: operators that give what they are given are gone, and reshapes of reshapes are one."""

from tvm import relax

from tersor.ir.graph import Expr, axes_of, shape_of
from tersor.passes.canonicalize.walk import Walk


def tuple_item(walk: Walk, item: Expr) -> Expr | None:
    """Give the field of a tuple that is written out, and what a dropout is given."""
    if isinstance(item.tuple_value, relax.Tuple):
        return item.tuple_value.fields[item.index]
    dropout = walk.definition(item.tuple_value, "nn.dropout")
    return None if dropout is None or item.index != 0 else dropout.args[0]


def same_shape(walk: Walk, call: Expr) -> Expr | None:
    """Drop what changes nothing where it does not change the shape."""
    return call.args[0] if shape_of(call) == shape_of(call.args[0]) else None


def reshape(walk: Walk, call: Expr) -> Expr | None:
    """Drop a reshape to the same shape; make two of them one."""
    if shape_of(call) == shape_of(call.args[0]):
        return call.args[0]
    first = walk.definition(call.args[0], "reshape", "flatten")
    if first is None:
        return None
    if shape_of(call) == shape_of(first.args[0]):
        return first.args[0]
    if not walk.read_once(call.args[0]):
        return None
    return relax.op.reshape(first.args[0], call.args[1])


def astype(walk: Walk, call: Expr) -> Expr | None:
    """Drop a cast to the same type."""
    return call.args[0] if call.args[0].ty.dtype == call.ty.dtype else None


def permute_dims(walk: Walk, call: Expr) -> Expr | None:
    """Drop a transpose that keeps the order."""
    return call.args[0] if axes_of(call) == list(range(len(call.ty.shape))) else None


def concat(walk: Walk, call: Expr) -> Expr | None:
    """Drop a concatenation of one tensor."""
    parts = call.args[0]
    return parts.fields[0] if isinstance(parts, relax.Tuple) and len(parts.fields) == 1 else None
