"""Reductions: the axes of a mean count from the front, in order, as the integer form of pooling has them."""

from tvm import relax

from tersor.ir.graph import Expr
from tersor.passes.canonicalize.walk import Walk


def mean(walk: Walk, call: Expr) -> Expr | None:
    """Give the axes [-1, -2] of an image as [2, 3]."""
    x = call.args[0]
    if call.attrs.axis is None:
        return None
    axes = [int(axis) for axis in call.attrs.axis]
    ordered = sorted(axis % len(x.ty.shape) for axis in axes)
    return None if axes == ordered else relax.op.mean(x, ordered, bool(call.attrs.keepdims))
