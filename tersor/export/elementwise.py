"""Operators on each element as ONNX nodes."""

import math
from collections.abc import Callable

import numpy as np

from tersor.export.writer import Writer, element_type
from tersor.ir.graph import Expr, shape_of

Form = Callable[[Writer, Expr], str]

# One node of another name, with the same operands.
SAME = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "logical_not": "Not",
    "where": "Where",
    "nn.relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "negative": "Neg",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "isnan": "IsNaN",
    "isinf": "IsInf",
}


def _same(kind: str) -> Form:
    return lambda writer, call: writer.node(kind, *(writer.read(argument) for argument in call.args))


def clip(writer: Writer, call: Expr) -> str:
    """Write a clip; an infinite bound is left out."""
    low, high = (float(argument.value) for argument in call.args[1:3])
    dtype = str(call.ty.dtype)
    bounds = ["" if math.isinf(bound) else writer.constant(np.asarray(bound, dtype)) for bound in (low, high)]
    return writer.node("Clip", writer.read(call.args[0]), *bounds)


def _leaky(writer: Writer, call: Expr) -> str:
    return writer.node("LeakyRelu", writer.read(call.args[0]), alpha=float(call.attrs.alpha))


def _prelu(writer: Writer, call: Expr) -> str:
    """Write a PReLU, whose slopes ONNX broadcasts from the last axis."""
    slope, axis, rank = call.args[1], int(call.attrs.axis), len(shape_of(call))
    shape = [1] * rank
    shape[axis] = -1
    slopes = writer.node("Reshape", writer.read(slope), writer.ints(shape))
    return writer.node("PRelu", writer.read(call.args[0]), slopes)


def _silu(writer: Writer, call: Expr) -> str:
    x = writer.read(call.args[0])
    return writer.node("Mul", x, writer.node("Sigmoid", x))


def _rsqrt(writer: Writer, call: Expr) -> str:
    return writer.node("Reciprocal", writer.node("Sqrt", writer.read(call.args[0])))


def _square(writer: Writer, call: Expr) -> str:
    x = writer.read(call.args[0])
    return writer.node("Mul", x, x)


def _gelu(writer: Writer, call: Expr) -> str:
    """Write x/2 (1 + erf(x / sqrt 2)): a node of its own it is only from opset 20 on."""
    x = writer.read(call.args[0])
    bell = writer.node("Erf", writer.node("Mul", x, _number(writer, call, 1 / math.sqrt(2))))
    return _half_of(writer, call, x, bell)


def _gelu_tanh(writer: Writer, call: Expr) -> str:
    """Write x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    x = writer.read(call.args[0])
    cube = writer.node("Mul", writer.node("Mul", x, x), x)
    inner = writer.node("Add", x, writer.node("Mul", cube, _number(writer, call, 0.044715)))
    bell = writer.node("Tanh", writer.node("Mul", inner, _number(writer, call, math.sqrt(2 / math.pi))))
    return _half_of(writer, call, x, bell)


def _half_of(writer: Writer, call: Expr, x: str, bell: str) -> str:
    raised = writer.node("Add", bell, _number(writer, call, 1.0))
    return writer.node("Mul", writer.node("Mul", x, raised), _number(writer, call, 0.5))


def _number(writer: Writer, call: Expr, value: float) -> str:
    return writer.constant(np.asarray(value, str(call.ty.dtype)))


def _cast(writer: Writer, call: Expr) -> str:
    return writer.node("Cast", writer.read(call.args[0]), to=element_type(str(call.ty.dtype)))


FORMS: dict[str, Form] = {
    **{name: _same(kind) for name, kind in SAME.items()},
    "clip": clip,
    "nn.leakyrelu": _leaky,
    "nn.prelu": _prelu,
    "nn.silu": _silu,
    "nn.gelu": _gelu,
    "nn.gelu_tanh": _gelu_tanh,
    "rsqrt": _rsqrt,
    "square": _square,
    "astype": _cast,
}
