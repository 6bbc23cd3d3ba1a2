"""Row steps: what an operator does to each row of a tensor, as values of a row program.

Integer operators are `tersor.arithmetic` as vector code. Where rounding comes before clipping there, it comes
after here: bounds are integers and rounding is monotone, so the codes are the same.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.arithmetic import (
    FRACTION,
    FRACTION_BITS,
    LEAST_ROW_SCALE,
    ROW_STEP,
    SYMMETRIC_ZERO,
    TERM_LIMIT,
    UINT8,
)
from tersor.ir import elementary
from tersor.ir.chains import activation_limits
from tersor.ir.graph import Expr, Graph, operator, shape_of
from tersor.ir.operators import (
    Add,
    Dequantize,
    Operator,
    Quantize,
    QuantizeRows,
    Rescale,
    RowScale,
    call_arguments,
    read_operator,
)
from tersor.ir.untyped import tirx
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.rows import Map, Reduce, Value

Function = Callable[..., Expr]
Read = Callable[[Expr], Value]

# A float32 sum with this is rounded to a whole number, and its bits are this one's with the number added.
ROUNDING = 1.5 * 2**23
ROUNDING_BITS = 0x4B400000

UNARY: Mapping[str, Function] = {
    "sigmoid": elementary.sigmoid,
    "tanh": elementary.tanh,
    "exp": elementary.exp,
    "erf": elementary.erf,
    "nn.gelu": elementary.gelu,
    "nn.gelu_tanh": elementary.gelu_tanh,
    "nn.silu": elementary.silu,
    "sqrt": T.sqrt,
    "negative": lambda x: -x,
    "abs": lambda x: T.max(x, -x),
    "square": lambda x: x * x,
}
BINARY: Mapping[str, Function] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": T.max,
    "minimum": T.min,
}
REDUCTIONS: Mapping[str, str] = {"mean": "sum", "sum": "sum", "max": "max"}
ELEMENTWISE_STEPS = (Quantize, Dequantize, Rescale, Add, QuantizeRows)


def row_shape(graph: Graph, var: Expr, value: Expr) -> tuple[int, ...] | None:
    """Give the shape whose rows an operator works on, or None if it is no step of a row program."""
    step = read_operator(graph.mod, value)
    name = operator(value)
    if isinstance(step, RowScale):
        return shape_of(call_arguments(value)[0])
    if isinstance(step, ELEMENTWISE_STEPS):
        return shape_of(var)
    if str(getattr(var.ty, "dtype", "")) != "float32":
        return None
    if name in UNARY or name in BINARY or name == "nn.leakyrelu" or activation_limits(value) is not None:
        return shape_of(var)
    if name == "nn.softmax":
        return shape_of(var) if _is_last([value.attrs.axis], var) else None
    if name == "nn.layer_norm":
        affine = bool(value.attrs.center) and bool(value.attrs.scale)
        return shape_of(var) if affine and _is_last(value.attrs.axes, var) else None
    if name in REDUCTIONS and value.attrs.axis is not None and value.attrs.keepdims:
        return shape_of(value.args[0]) if _is_last(value.attrs.axis, value.args[0]) else None
    return None


def is_reduction(graph: Graph, value: Expr) -> bool:
    """Whether an operator of a row program reads a row more than once."""
    if isinstance(read_operator(graph.mod, value), RowScale):
        return True
    return operator(value) in ("nn.softmax", "nn.layer_norm", *REDUCTIONS)


def is_heavy(value: Expr) -> bool:
    """Whether an operator takes much arithmetic for each element."""
    return operator(value) in ("sigmoid", "tanh", "exp", "erf", "nn.gelu", "nn.gelu_tanh", "nn.silu")


def row_value(isa: Isa, graph: Graph, value: Expr, read: Read) -> Value:
    """Give what an operator computes, from the values that `read` gives for its operands."""
    step = read_operator(graph.mod, value)
    if step is not None:
        return _integer(isa, step, [read(argument) for argument in call_arguments(value)])
    name, limits = operator(value), activation_limits(value)
    if limits is not None:
        return Map(lambda x: _clip(x, *limits), (read(value.args[0]),))
    if name == "nn.leakyrelu":
        return Map(lambda x: _leaky(x, float(value.attrs.alpha)), (read(value.args[0]),))
    if name in UNARY:
        return Map(UNARY[name], (read(value.args[0]),))
    if name in BINARY:
        return _binary(graph, name, value.args, read)
    row = read(value.args[0])
    columns = shape_of(value.args[0])[-1]
    match name:
        case "nn.softmax":
            return _softmax(row)
        case "nn.layer_norm":
            scale, shift = read(value.args[1]), read(value.args[2])
            return _layer_norm(row, scale, shift, columns, float(value.attrs.epsilon))
        case "mean":
            return _scaled(Reduce("sum", row), 1 / columns)
        case _:
            return Reduce(REDUCTIONS[name], row)


def _is_last(axes: Any, tensor: Expr) -> bool:
    rank = len(shape_of(tensor))
    return [int(axis) % rank for axis in axes] == [rank - 1]


def _binary(graph: Graph, name: str, arguments: Any, read: Read) -> Value:
    """Combine two tensors; a constant of one value is part of the code."""
    constants = [_constant(graph, argument) for argument in arguments]
    function = BINARY[name]
    match constants:
        case [None, None]:
            return Map(function, tuple(read(argument) for argument in arguments))
        case [None, float(right)]:
            if name == "divide":
                return _scaled(read(arguments[0]), 1 / right)
            return Map(lambda x: function(x, _real(right, x)), (read(arguments[0]),))
        case [float(left), None]:
            return Map(lambda x: function(_real(left, x), x), (read(arguments[1]),))
    raise AssertionError("an operator on constants alone is folded before")


def _constant(graph: Graph, argument: Expr) -> float | None:
    value = graph.value(argument)
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def constant_operands(graph: Graph, value: Expr) -> list[Expr]:
    """Give the operands that are part of a row program's code and no arguments."""
    if operator(value) not in BINARY:
        return []
    return [argument for argument in value.args if _constant(graph, argument) is not None]


def _softmax(row: Value) -> Value:
    power = Map(lambda x, most: elementary.exp(x - most), (row, Reduce("max", row)))
    share = Map(lambda total: _real(1.0, total) / total, (Reduce("sum", power),))
    return Map(lambda x, y: x * y, (power, share))


def _layer_norm(row: Value, scale: Value, shift: Value, columns: int, epsilon: float) -> Value:
    mean = _scaled(Reduce("sum", row), 1 / columns)
    centred = Map(lambda x, mean: x - mean, (row, mean))
    variance = _scaled(Reduce("sum", Map(lambda x: x * x, (centred,))), 1 / columns)
    inverse = Map(lambda v: _real(1.0, v) / T.sqrt(v + _real(epsilon, v)), (variance,))
    return Map(lambda x, r, scale, shift: x * r * scale + shift, (centred, inverse, scale, shift))


def _scaled(value: Value, factor: float) -> Value:
    return Map(lambda x: x * _real(factor, x), (value,))


def _integer(isa: Isa, step: Operator, inputs: list[Value]) -> Value:
    match step:
        case Quantize(scale, zero_point, bounds):
            return Map(lambda x: _codes(isa, x / _real(scale, x), zero_point, bounds), (inputs[0],), "uint8")
        case Dequantize(scale, zero_point):
            return Map(lambda codes: _scale(_centred(codes, zero_point), scale), (inputs[0],))
        case Rescale(multiplier, in_zero_point, zero_point, bounds):
            return Map(
                lambda codes: _codes(
                    isa, _scale(_centred(codes, in_zero_point), multiplier), zero_point, bounds
                ),
                (inputs[0],),
                "uint8",
            )
        case Add():
            return Map(lambda a, b: _sum(isa, step, a, b), (inputs[0], inputs[1]), "uint8")
        case RowScale():
            largest = Reduce("absmax", inputs[0])
            return Map(lambda v: T.max(v * _real(ROW_STEP, v), _real(LEAST_ROW_SCALE, v)), (largest,))
        case QuantizeRows():
            return Map(
                lambda x, scale: _codes(isa, x / scale, SYMMETRIC_ZERO, UINT8),
                (inputs[0], inputs[1]),
                "uint8",
            )
        case _:
            raise AssertionError(f"{step.name} is no step of a row program")


def _sum(isa: Isa, step: Add, a: Expr, b: Expr) -> Expr:
    first = _term(isa, a, step.a_zero_point, step.a_multiplier)
    total = first + _term(isa, b, step.b_zero_point, step.b_multiplier)
    total = total + _whole(1 << FRACTION_BITS - 1, total)
    steps = (total >> _whole(FRACTION_BITS, total)) + _whole(step.zero_point, total)
    low, high = (_whole(bound, steps) for bound in step.bounds)
    return T.cast(T.min(T.max(steps, low), high), _retyped(steps, "uint8"))


def _term(isa: Isa, codes: Expr, zero_point: int, multiplier: float) -> Expr:
    """Give a term of a sum in 4096ths of a step."""
    scaled = _scale(_centred(codes, zero_point), multiplier)
    fine = _clip(scaled * _real(FRACTION, scaled), -TERM_LIMIT, TERM_LIMIT)
    if isa.dot is not None:
        return _rounded(isa, fine)
    return T.cast(T.nearbyint(fine), _retyped(fine, "int32"))  # too large for the other way of rounding


def _codes(isa: Isa, steps: Expr, zero_point: int, bounds: tuple[int, int]) -> Expr:
    """Clip, round, and shift by the zero point to uint8 codes."""
    low, high = (float(bound - zero_point) for bound in bounds)
    rounded = _rounded(isa, _clip(steps, low, high))
    return T.cast(rounded + _whole(zero_point, rounded), _retyped(rounded, "uint8"))


def _rounded(isa: Isa, value: Expr) -> Expr:
    """Round to int32, ties to even; of at most 2^22 where the unit has no conversion that rounds."""
    integer = _retyped(value, "int32")
    if isa.dot is not None:
        return T.call_llvm_pure_intrin(integer, "llvm.lrint", value)
    bits = T.reinterpret(integer, value + _real(ROUNDING, value))
    return bits - _whole(ROUNDING_BITS, bits)


def _leaky(x: Expr, alpha: float) -> Expr:
    return _clip(x, 0.0, None) + _clip(x, None, 0.0) * _real(alpha, x)


def _clip(value: Expr, low: float | None, high: float | None) -> Expr:
    if low is not None:
        value = T.max(value, _real(low, value))
    return value if high is None else T.min(value, _real(high, value))


def _centred(codes: Expr, zero_point: int) -> Expr:
    wide = T.cast(codes, _retyped(codes, "int32"))
    return wide - _whole(zero_point, wide)


def _scale(whole: Expr, factor: float) -> Expr:
    real = T.cast(whole, _retyped(whole, "float32"))
    return real * _real(factor, real)


def _real(value: float, like: Expr) -> Expr:
    return tirx.const(value, _retyped(like, "float32"))


def _whole(value: int, like: Expr) -> Expr:
    return tirx.const(value, _retyped(like, "int32"))


def _retyped(like: Expr, kind: str) -> str:
    """Give the dtype of `kind` with as many lanes as an expression."""
    _, x, lanes = str(like.ty.dtype).partition("x")
    return f"{kind}{x}{lanes}"
