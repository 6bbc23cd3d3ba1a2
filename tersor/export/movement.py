"""Operators that move elements or reduce axes as ONNX nodes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tersor.error import UserError
from tersor.export.writer import Writer
from tersor.ir.graph import Expr, axes_of, operator, shape_of

Form = Callable[[Writer, Expr], str]


def _reshape(writer: Writer, call: Expr) -> str:
    return writer.node("Reshape", writer.read(call.args[0]), writer.ints(shape_of(call)))


def _permute(writer: Writer, call: Expr) -> str:
    return writer.node("Transpose", writer.read(call.args[0]), perm=axes_of(call))


def _concat(writer: Writer, call: Expr) -> str:
    parts = [writer.read(part) for part in call.args[0].fields]
    return writer.node("Concat", *parts, axis=int(call.attrs.axis))


def _slice(writer: Writer, call: Expr) -> str:
    axes, begin, end = (_numbers(argument) for argument in call.args[1:4])
    steps = _numbers(call.args[4]) if len(call.args) > 4 else [1] * len(axes)
    lists = [writer.ints(values, "bounds") for values in (begin, end, axes, steps)]
    return writer.node("Slice", writer.read(call.args[0]), *lists)


def _take(writer: Writer, call: Expr) -> str:
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis)
    operands = (writer.read(argument) for argument in call.args[:2])
    return writer.node("Gather", *operands, axis=axis)


def _gather_elements(writer: Writer, call: Expr) -> str:
    operands = (writer.read(argument) for argument in call.args)
    return writer.node("GatherElements", *operands, axis=int(call.attrs.axis))


def _gather_nd(writer: Writer, call: Expr) -> str:
    operands = (writer.read(argument) for argument in call.args)
    return writer.node("GatherND", *operands, batch_dims=int(call.attrs.batch_dims))


def _expand(writer: Writer, call: Expr) -> str:
    return writer.node("Expand", writer.read(call.args[0]), writer.ints(shape_of(call)))


def _tile(writer: Writer, call: Expr) -> str:
    repeats = [int(count) for count in call.attrs.repeats]
    source, rank = writer.read(call.args[0]), len(shape_of(call.args[0]))
    if len(repeats) > rank:
        shape = [1] * (len(repeats) - rank) + list(shape_of(call.args[0]))
        source = writer.node("Reshape", source, writer.ints(shape))
    repeats = [1] * (rank - len(repeats)) + repeats
    return writer.node("Tile", source, writer.ints(repeats, "repeats"))


def _cumsum(writer: Writer, call: Expr) -> str:
    if call.attrs.axis is None:
        raise UserError("a cumsum over all elements has no ONNX form")
    axis = writer.constant(np.array(int(call.attrs.axis), np.int64))
    return writer.node("CumSum", writer.read(call.args[0]), axis, exclusive=int(call.attrs.exclusive))


def _full(writer: Writer, call: Expr) -> str:
    return writer.node("Expand", writer.read(call.args[1]), writer.ints(shape_of(call)))


def _argument(kind: str) -> Form:
    def write(writer: Writer, call: Expr) -> str:
        source, axis, keeps = writer.read(call.args[0]), call.attrs.axis, int(call.attrs.keepdims)
        if axis is None:
            source = writer.node("Reshape", source, writer.ints([-1]))
            found = writer.node(kind, source, axis=0, keepdims=0)
            return writer.node("Reshape", found, writer.ints(shape_of(call)))
        return writer.node(kind, source, axis=int(axis), keepdims=keeps)

    return write


def _reduction(kind: str) -> Form:
    def write(writer: Writer, call: Expr) -> str:
        source, axis = writer.read(call.args[0]), call.attrs.axis
        rank, keeps = len(shape_of(call.args[0])), int(call.attrs.keepdims)
        axes = list(range(rank)) if axis is None else [int(each) % rank for each in axis]
        if kind == "ReduceMean" and axes == [2, 3] and rank == 4:  # known to every quantizing runtime
            pooled = writer.node("GlobalAveragePool", source)
            return pooled if keeps else writer.node("Reshape", pooled, writer.ints(shape_of(call)))
        if kind == "ReduceSum":  # from opset 13 on its axes are an input
            return writer.node(kind, source, writer.ints(axes, "axes"), keepdims=keeps)
        return writer.node(kind, source, axes=axes, keepdims=keeps)

    return write


def _variance(writer: Writer, call: Expr) -> str:
    source, axis = writer.read(call.args[0]), call.attrs.axis
    rank = len(shape_of(call.args[0]))
    axes = list(range(rank)) if axis is None else [int(each) % rank for each in axis]
    centred = writer.node("Sub", source, writer.node("ReduceMean", source, axes=axes, keepdims=1))
    squares = writer.node("Mul", centred, centred)
    return writer.node("ReduceMean", squares, axes=axes, keepdims=int(call.attrs.keepdims))


def split(writer: Writer, call: Expr) -> list[str]:
    """Write a split, the one operator with several results."""
    axis, parts = int(call.attrs.axis), call.ty.fields
    sizes = [int(part.shape[axis]) for part in parts]
    lengths = writer.ints(sizes, "lengths")
    return writer.nodes("Split", writer.read(call.args[0]), lengths, outputs=len(sizes), axis=axis)


def _numbers(values: Any) -> list[int]:
    if operator(values) or not hasattr(values, "fields"):
        raise UserError("a slice with bounds that are computed has no ONNX form")
    return [int(field.value) for field in values.fields]


FORMS: dict[str, Form] = {
    **{name: _reshape for name in ("reshape", "flatten", "squeeze", "expand_dims")},
    "permute_dims": _permute,
    "concat": _concat,
    "strided_slice": _slice,
    "take": _take,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
    "broadcast_to": _expand,
    "tile": _tile,
    "cumsum": _cumsum,
    "full": _full,
    "mean": _reduction("ReduceMean"),
    "sum": _reduction("ReduceSum"),
    "max": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"),
    "prod": _reduction("ReduceProd"),
    "variance": _variance,
    "argmax": _argument("ArgMax"),
    "argmin": _argument("ArgMin"),
}
