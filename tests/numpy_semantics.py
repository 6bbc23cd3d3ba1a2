"""What a compressed module means, in numpy: every binding from the values of what it reads.

Integer operators are the functions of `tersor.arithmetic`, decoders those of `tersor.formats`; float
operators are numpy's in float64, rounded to float32 at the end.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tersor import arithmetic as A
from tersor.ir import operators as ops
from tersor.ir.decoders import read_decoder
from tersor.ir.graph import Array, Expr, Graph, operator, pair
from tersor.ir.operators import call_arguments, read_operator
from tersor.ir.recurrent import Gru, Lstm, read_cell
from tersor.ir.untyped import relax


class Meaning:
    """Evaluates variables of one module; `known` values, measured elsewhere, are taken as they are."""

    def __init__(self, mod: Any, known: Mapping[Expr, Array]) -> None:
        self.graph = Graph(mod)
        self.values: dict[Expr, Any] = {**self.graph.weights, **known}

    def of(self, var: Expr) -> Array:
        """Compute a variable anew from the known values nearest to it."""
        return np.asarray(self._compute(self.graph.definition(var)))

    def value(self, expr: Expr) -> Any:
        """Give what is known of a variable, or was computed before; else compute it."""
        constant = self.graph.value(expr)
        if constant is not None:
            return constant
        if expr not in self.values:
            self.values[expr] = self._compute(self.graph.definition(expr))
        return self.values[expr]

    def _compute(self, value: Any) -> Any:
        if isinstance(value, relax.TupleGetItem):
            return self.value(value.tuple_value)[int(value.index)]
        step = read_operator(self.graph.mod, value)
        if step is not None:
            return OPERATORS[type(step)](step, *(self.value(each) for each in call_arguments(value)))
        decode: Any = read_decoder(self.graph.mod, value)
        if decode is not None:
            return decode.run(*(self.value(each) for each in call_arguments(value)))
        cell = read_cell(self.graph.mod, value)
        if cell is not None:
            return run_cell(cell, [self.value(each) for each in call_arguments(value)])
        name = operator(value)
        if name == "concat":
            parts = [self.value(each) for each in value.args[0].fields]
            return np.concatenate(parts, int(value.attrs.axis))
        return RELAX[name](value.attrs, *(self._argument(each) for each in value.args))

    def _argument(self, expr: Expr) -> Any:
        """Give a tensor's value, or what is no tensor as it stands in the module: a shape, a limit."""
        is_tensor = isinstance(expr, relax.Var) or self.graph.value(expr) is not None
        return self.value(expr) if is_tensor else expr


OPERATORS: dict[type, Callable[..., Any]] = {
    ops.Quantize: lambda s, x: A.quantize(x, s.scale, s.zero_point, s.bounds),
    ops.Dequantize: lambda s, x: A.dequantize(x, s.scale, s.zero_point),
    ops.Requantize: lambda s, acc, m: A.requantize(acc, m, s.zero_point, s.bounds, s.axis),
    ops.RequantizeAdd: lambda s, acc, m, r: A.requantize_add(
        acc, m, r, s.residual_multiplier, s.residual_zero_point, s.zero_point, s.bounds, s.axis
    ),
    ops.RescaleAccumulator: lambda s, acc, m: A.rescale_accumulator(acc, m, s.axis),
    ops.Add: lambda s, a, b: A.add(
        a, s.a_multiplier, s.a_zero_point, b, s.b_multiplier, s.b_zero_point, s.zero_point, s.bounds
    ),
    ops.Rescale: lambda s, x: A.rescale(x, s.multiplier, s.in_zero_point, s.zero_point, s.bounds),
    ops.AveragePool: lambda s, x: A.average_pool(
        x, s.multiplier, s.in_zero_point, s.zero_point, s.kernel, s.stride, s.bounds
    ),
    ops.Product: lambda s, a, b: A.product(a, s.a_zero_point, b, s.b_zero_point),
    ops.RowScale: lambda _, x: A.row_scale(x),
    ops.QuantizeRows: lambda _, x, scale: A.quantize_rows(x, scale),
    ops.GatherRows: lambda _, codes, scale, indices: A.gather_rows(codes, scale, indices),
}


def run_cell(cell: Any, given: list[Array]) -> Any:
    """Run a recurrent cell with the integer arithmetic of its scheme: y, and an LSTM's last c."""
    gates, weight, *rest = given
    multiplier = rest.pop(0) if cell.weight == "int8" else None
    bias = rest.pop(0) if isinstance(cell, Gru) and cell.reset_after else None
    h, c = rest[0], rest[1] if isinstance(cell, Lstm) else None
    if multiplier is not None and cell.state == "float32":
        weight = weight * multiplier

    def product(state: Array, columns: slice) -> Array:
        if cell.state == "int8":
            assert multiplier is not None
            codes = A.quantize_state(state)
            return A.recurrent_product(codes, weight[:, columns], multiplier[columns])
        return state @ weight[:, columns]

    hidden, steps = cell.hidden, len(gates)
    y = np.zeros((steps, *h.shape), np.float32)
    for t in reversed(range(steps)) if cell.reverse else range(steps):
        if c is not None:
            i, f, g, o = np.split(gates[t] + product(h, slice(None)), 4, axis=-1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
        else:
            r, z, n = np.split(gates[t], 3, axis=-1)
            r = _sigmoid(r + product(h, slice(0, hidden)))
            z = _sigmoid(z + product(h, slice(hidden, 2 * hidden)))
            last = slice(2 * hidden, None)
            inner = product(r * h, last) if bias is None else r * (product(h, last) + bias)
            h = (1 - z) * np.tanh(n + inner) + z * h
        y[t] = h
    return y if c is None else (y, c)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _float(function: Callable[..., Array]) -> Callable[..., Array]:
    """Compute in float64 and round once; integers stay exact."""

    def run(_attributes: Any, *arguments: Array) -> Array:
        if arguments[0].dtype.kind != "f":
            return function(*arguments).astype(arguments[0].dtype)
        return function(*(each.astype(np.float64) for each in arguments)).astype(np.float32)

    return run


def _conv2d(attributes: Any, x: Array, weight: Array) -> Array:
    padding = tuple(int(pad) for pad in attributes.padding)
    stride, dilation, groups = pair(attributes.strides), pair(attributes.dilation), int(attributes.groups)
    if weight.dtype == np.int8:
        no_bias = np.zeros(len(weight), np.int32)
        return A.conv2d(x, weight, no_bias, 0, stride, padding, dilation, groups)  # type: ignore[arg-type]
    top, left, bottom, right = padding
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, depth, rows, columns = weight.shape
    span = ((rows - 1) * dilation[0] + 1, (columns - 1) * dilation[1] + 1)
    windows = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    batch, _, height, width = windows.shape[:4]
    windows = windows.reshape(batch, groups, depth, height, width, rows, columns)
    weight = weight.reshape(groups, outputs // groups, depth, rows, columns).astype(x.dtype)
    result = np.einsum("ngchwrs,gkcrs->ngkhw", windows, weight, optimize=True)
    return result.reshape(batch, outputs, height, width).astype(np.float32)


def _matmul(_attributes: Any, a: Array, b: Array) -> Array:
    if b.dtype == np.int8:
        return A.matmul(a, b, np.zeros(b.shape[-1], np.int32), 0)
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def _max_pool(attributes: Any, x: Array) -> Array:
    padding = tuple(int(pad) for pad in attributes.padding)
    return A.max_pool(x, pair(attributes.pool_size), pair(attributes.strides), padding)  # type: ignore[arg-type]


def _pad(attributes: Any, x: Array) -> Array:
    widths = np.array([int(width) for width in attributes.pad_width]).reshape(-1, 2)
    return np.pad(x, widths, constant_values=int(attributes.pad_value))


def _softmax(attributes: Any, x: Array) -> Array:
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=int(attributes.axis), keepdims=True))
    return (powers / powers.sum(axis=int(attributes.axis), keepdims=True)).astype(np.float32)


def _clip(_attributes: Any, x: Array, low: Any, high: Any) -> Array:
    return np.clip(x, *(np.float32(float(each.value)) for each in (low, high)))


def _dequantize(attributes: Any, codes: Array, scale: Array, zero_point: Array) -> Array:
    shape = [1] * codes.ndim
    if scale.ndim:
        shape[int(attributes.axis)] = -1
    return (codes.astype(np.int32) - zero_point.astype(np.int32)).astype(np.float32) * scale.reshape(shape)


def _axes(attributes: Any) -> tuple[int, ...]:
    return tuple(int(axis) for axis in attributes.axis)


RELAX: dict[str, Callable[..., Any]] = {
    "nn.conv2d": _conv2d,
    "matmul": _matmul,
    "nn.max_pool2d": _max_pool,
    "nn.pad": _pad,
    "add": _float(np.add),
    "subtract": _float(np.subtract),
    "multiply": _float(np.multiply),
    "nn.relu": _float(lambda x: np.maximum(x, 0)),
    "clip": _clip,
    "nn.softmax": _softmax,
    "dequantize": _dequantize,
    "astype": lambda a, x: x.astype(str(a.dtype)),
    "less": lambda _, a, b: a < b,
    "where": lambda _, condition, a, b: np.where(condition, a, b),
    "take": lambda a, x, indices: np.take(x, indices, int(a.axis), mode="clip"),
    "reshape": lambda _, x, shape: x.reshape(shape_of_literal(shape)),
    "broadcast_to": lambda _, x, shape: np.broadcast_to(x, shape_of_literal(shape)),
    "permute_dims": lambda a, x: np.transpose(x, None if a.axes is None else [int(axis) for axis in a.axes]),
    "expand_dims": lambda a, x: np.expand_dims(x, _axes(a)),
    "squeeze": lambda a, x: np.squeeze(x, _axes(a)),
}


def shape_of_literal(shape: Expr) -> tuple[int, ...]:
    """Give the extents of a shape written in the module."""
    return tuple(int(extent) for extent in shape.values)
