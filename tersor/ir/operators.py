"""The integer operators of a compressed module, each a PrimFunc that *defines* what is computed.

A module after `Integerize` calls these between its integer convolutions and matrix products. They run on
plain llvm as they are; a target recognises them by the attribute they carry and swaps in its own kernel. The
reference for every one of them is the function of the same name in `tersor.arithmetic`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tersor.arithmetic import (
    FRACTION,
    FRACTION_BITS,
    LEAST_ROW_SCALE,
    ROW_STEP,
    SYMMETRIC_ZERO,
    TERM_LIMIT,
    UINT8,
)
from tersor.ir.graph import Expr, Module
from tersor.ir.untyped import relax, te, tirx

ATTRIBUTE = "tersor.operator"
Bounds = tuple[int, int]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Quantize:
    """(float32 x) -> uint8 codes (`arithmetic.quantize`)."""

    scale: float
    zero_point: int
    bounds: Bounds = UINT8
    name: ClassVar[str] = "quantize"
    output: ClassVar[str] = "uint8"

    def compute(self, x: Expr) -> Expr:
        """Describe the computation."""

        def code(v: Expr) -> Expr:
            return _saturate(tirx.nearbyint(v / _float(self.scale)), self.zero_point, self.bounds)

        return _map(x, code)


@dataclass(frozen=True)
class Dequantize:
    """(uint8 codes) -> float32 (`arithmetic.dequantize`)."""

    scale: float
    zero_point: int
    name: ClassVar[str] = "dequantize"
    output: ClassVar[str] = "float32"

    def compute(self, codes: Expr) -> Expr:
        """Describe the computation."""
        return _map(codes, lambda v: _centred(v, self.zero_point).astype("float32") * _float(self.scale))


@dataclass(frozen=True)
class Requantize:
    """(int32 accumulator, float32 multiplier [K]) -> uint8 codes (`arithmetic.requantize`)."""

    zero_point: int
    bounds: Bounds = UINT8
    axis: int = 1
    name: ClassVar[str] = "requantize"
    output: ClassVar[str] = "uint8"

    def compute(self, acc: Expr, multiplier: Expr) -> Expr:
        """Describe the computation."""

        def code(*i: Expr) -> Expr:
            scaled = acc(*i).astype("float32") * multiplier(i[self.axis])
            return _saturate(tirx.nearbyint(scaled), self.zero_point, self.bounds)

        return te.compute(acc.shape, code)


@dataclass(frozen=True)
class RequantizeAdd:
    """(int32 accumulator, float32 multiplier [K], uint8 residual) -> uint8 (`arithmetic.requantize_add`)."""

    residual_multiplier: float
    residual_zero_point: int
    zero_point: int
    bounds: Bounds = UINT8
    axis: int = 1
    name: ClassVar[str] = "requantize_add"
    output: ClassVar[str] = "uint8"

    def compute(self, acc: Expr, multiplier: Expr, residual: Expr) -> Expr:
        """Describe the computation."""

        def code(*i: Expr) -> Expr:
            own = _term(acc(*i).astype("float32") * multiplier(i[self.axis]))
            centred = _centred(residual(*i), self.residual_zero_point)
            other = _term(centred.astype("float32") * _float(self.residual_multiplier))
            return _clip(_whole(own + other) + self.zero_point, self.bounds)

        return te.compute(acc.shape, code)


@dataclass(frozen=True)
class RescaleAccumulator:
    """(int32 accumulator, float32 scale [K]) -> float32 (`arithmetic.rescale_accumulator`)."""

    axis: int = 1
    name: ClassVar[str] = "rescale_accumulator"
    output: ClassVar[str] = "float32"

    def compute(self, acc: Expr, scale: Expr) -> Expr:
        """Describe the computation."""
        return te.compute(acc.shape, lambda *i: acc(*i).astype("float32") * scale(i[self.axis]))


@dataclass(frozen=True)
class Add:
    """(uint8 a, uint8 b) -> uint8 codes of the sum (`arithmetic.add`)."""

    a_multiplier: float
    a_zero_point: int
    b_multiplier: float
    b_zero_point: int
    zero_point: int
    bounds: Bounds = UINT8
    name: ClassVar[str] = "add"
    output: ClassVar[str] = "uint8"

    def compute(self, a: Expr, b: Expr) -> Expr:
        """Describe the computation."""

        def code(*i: Expr) -> Expr:
            first = _term(_centred(a(*i), self.a_zero_point).astype("float32") * _float(self.a_multiplier))
            second = _term(_centred(b(*i), self.b_zero_point).astype("float32") * _float(self.b_multiplier))
            return _clip(_whole(first + second) + self.zero_point, self.bounds)

        return te.compute(a.shape, code)


@dataclass(frozen=True)
class Rescale:
    """(uint8 codes) -> uint8 codes on another grid, clipped (`arithmetic.rescale`)."""

    multiplier: float
    in_zero_point: int
    zero_point: int
    bounds: Bounds = UINT8
    name: ClassVar[str] = "rescale"
    output: ClassVar[str] = "uint8"

    def compute(self, codes: Expr) -> Expr:
        """Describe the computation."""

        def code(v: Expr) -> Expr:
            scaled = _centred(v, self.in_zero_point).astype("float32") * _float(self.multiplier)
            return _saturate(tirx.nearbyint(scaled), self.zero_point, self.bounds)

        return _map(codes, code)


@dataclass(frozen=True)
class AveragePool:
    """(uint8 [N, C, H, W]) -> uint8 averages over windows without padding (`arithmetic.average_pool`).

    With `channels_last` the axes are [N, H, W, C].
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    multiplier: float
    in_zero_point: int
    zero_point: int
    bounds: Bounds = UINT8
    channels_last: bool = False
    name: ClassVar[str] = "average_pool"
    output: ClassVar[str] = "uint8"

    def compute(self, codes: Expr) -> Expr:
        """Describe the computation."""
        rows, columns = (1, 2) if self.channels_last else (2, 3)
        shape = list(codes.shape)
        for axis, window, step in zip((rows, columns), self.kernel, self.stride, strict=True):
            shape[axis] = (codes.shape[axis] - window) // step + 1
        r = te.reduce_axis((0, self.kernel[0]), "r")
        s = te.reduce_axis((0, self.kernel[1]), "s")

        def term(*i: Expr) -> Expr:
            at = list(i)
            at[rows] = i[rows] * self.stride[0] + r
            at[columns] = i[columns] * self.stride[1] + s
            return te.sum(_centred(codes(*at), self.in_zero_point), axis=[r, s])

        total = te.compute(shape, term)

        def code(v: Expr) -> Expr:
            scaled = v.astype("float32") * _float(self.multiplier)
            return _saturate(tirx.nearbyint(scaled), self.zero_point, self.bounds)

        return _map(total, code)


@dataclass(frozen=True)
class Product:
    """(uint8 a [..., M, C], uint8 b [..., C, K]) -> int32 [..., M, K] (`arithmetic.product`)."""

    a_zero_point: int
    b_zero_point: int
    name: ClassVar[str] = "product"
    output: ClassVar[str] = "int32"

    def compute(self, a: Expr, b: Expr) -> Expr:
        """Describe the computation; both have the same leading axes."""
        c = te.reduce_axis((0, a.shape[-1]), "c")

        def total(*i: Expr) -> Expr:
            left = _centred(a(*i[:-1], c), self.a_zero_point)
            return te.sum(left * _centred(b(*i[:-2], c, i[-1]), self.b_zero_point), axis=[c])

        return te.compute((*a.shape[:-1], b.shape[-1]), total)


@dataclass(frozen=True)
class RowScale:
    """(float32 x [..., C]) -> float32 [..., 1], the step of each row's own grid (`arithmetic.row_scale`)."""

    name: ClassVar[str] = "row_scale"
    output: ClassVar[str] = "float32"

    def compute(self, x: Expr) -> Expr:
        """Describe the computation."""
        c = te.reduce_axis((0, x.shape[-1]), "c")
        rows = (*x.shape[:-1], 1)
        largest = te.compute(rows, lambda *i: te.max(te.abs(x(*i[:-1], c)), axis=[c]))
        least = _float(LEAST_ROW_SCALE)
        return _map(largest, lambda v: tirx.max(v * _float(ROW_STEP), least))


@dataclass(frozen=True)
class QuantizeRows:
    """(float32 x [..., C], float32 scale [..., 1]) -> uint8 codes (`arithmetic.quantize_rows`)."""

    name: ClassVar[str] = "quantize_rows"
    output: ClassVar[str] = "uint8"

    def compute(self, x: Expr, scale: Expr) -> Expr:
        """Describe the computation."""

        def code(*i: Expr) -> Expr:
            steps = tirx.nearbyint(x(*i) / scale(*i[:-1], 0))
            return _saturate(steps, SYMMETRIC_ZERO, UINT8)

        return te.compute(x.shape, code)


@dataclass(frozen=True)
class GatherRows:
    """(int8 codes [C, K], float32 scale [C], indices) -> float32 [..., K] (`arithmetic.gather_rows`)."""

    name: ClassVar[str] = "gather_rows"
    output: ClassVar[str] = "float32"

    def compute(self, codes: Expr, scale: Expr, indices: Expr) -> Expr:
        """Describe the computation; an index beyond the table reads its nearest row, as no index may."""
        last = codes.shape[0] - 1

        def value(*i: Expr) -> Expr:
            row = tirx.max(tirx.min(indices(*i[:-1]).astype("int64"), last), tirx.const(0, "int64"))
            return codes(row, i[-1]).astype("float32") * scale(row)

        return te.compute((*indices.shape, codes.shape[1]), value)


@dataclass(frozen=True)
class FakeQuantize:
    """(float32 x, float32 step [1] or [C], float32 control [3]) -> float32 x on a grid that is an input.

    ``step * (clip(rint(x / step) + zero, 0, most) - zero)`` with control = zero, most, and whether x is on
    the grid (1) or passes as it is (0); steps of channels are along `axis`. With a fourth argument, float32
    [..., 1] of `RowScale`, a 2 there takes that for the step.
    """

    axis: int
    name: ClassVar[str] = "fake_quantize"
    output: ClassVar[str] = "float32"

    def compute(self, x: Expr, step: Expr, control: Expr, *rows: Expr) -> Expr:
        """Describe the computation."""
        is_one = int(step.shape[0]) == 1
        zero, most, kind = (control(place) for place in range(3))

        def value(*i: Expr) -> Expr:
            size = step(0 if is_one else i[self.axis])
            for scale in rows:
                size = tirx.Select(kind > _float(1.5), scale(*i[:-1], 0), size)
            code = tirx.min(tirx.max(tirx.nearbyint(x(*i) / size) + zero, _float(0.0)), most)
            return tirx.Select(kind > _float(0.5), (code - zero) * size, x(*i))

        return te.compute(x.shape, value)


Operator = (
    Quantize
    | Dequantize
    | Requantize
    | RequantizeAdd
    | RescaleAccumulator
    | Add
    | Rescale
    | AveragePool
    | Product
    | RowScale
    | QuantizeRows
    | GatherRows
    | FakeQuantize
)
_OPERATORS: dict[str, Callable[..., Operator]] = {
    kind.name: kind
    for kind in (
        Quantize,
        Dequantize,
        Requantize,
        RequantizeAdd,
        RescaleAccumulator,
        Add,
        Rescale,
        AveragePool,
        Product,
        RowScale,
        QuantizeRows,
        GatherRows,
        FakeQuantize,
    )
}


def prim_func(operator: Operator, *arguments: tuple[Shape, str]) -> Any:
    """Build the PrimFunc of an operator for arguments of given shapes and dtypes."""
    placeholders = [placeholder(shape, dtype, f"a{i}") for i, (shape, dtype) in enumerate(arguments)]
    result = operator.compute(*placeholders)
    function = te.create_prim_func([*placeholders, result]).without_attr("global_symbol")
    marker = json.dumps({"operator": operator.name, **asdict(operator)}, sort_keys=True)
    return function.with_attr(ATTRIBUTE, marker).with_attr("tirx.noalias", True)


def placeholder(shape: Shape, dtype: str, name: str) -> Expr:
    """Declare an argument; Relax's own functions have int64 extents, and TVM fuses none that have others."""
    return te.placeholder([tirx.IntImm("int64", extent) for extent in shape], dtype, name)


def read_operator(mod: Module, expr: Expr) -> Operator | None:
    """Give the operator that a `call_tir` calls, or None (also for recurrent ones: `read_cell`)."""
    fields = read_marker(mod, expr)
    kind = _OPERATORS.get(fields.pop("operator")) if fields else None
    if kind is None:
        return None
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


def read_marker(mod: Module, expr: Expr) -> dict[str, Any]:
    """Give the name and the fields of the operator that a `call_tir` calls; nothing if it is none of ours."""
    if not (isinstance(expr, relax.Call) and getattr(expr.op, "name", "") == "relax.call_tir"):
        return {}
    attributes = mod[expr.args[0]].attrs
    if attributes is None or ATTRIBUTE not in attributes:
        return {}
    return json.loads(str(attributes[ATTRIBUTE]))


def call_arguments(expr: Expr) -> list[Expr]:
    """Give the tensor arguments of a `call_tir`."""
    return list(expr.args[1].fields)


def _map(x: Expr, function: Callable[[Expr], Expr]) -> Expr:
    return te.compute(x.shape, lambda *i: function(x(*i)))


def _float(value: float) -> Expr:
    return tirx.const(value, "float32")


def _centred(code: Expr, zero_point: int) -> Expr:
    return code.astype("int32") - tirx.const(zero_point, "int32")


def _saturate(rounded: Expr, zero_point: int, bounds: Bounds) -> Expr:
    low, high = bounds
    clipped = tirx.min(tirx.max(rounded, _float(low - zero_point)), _float(high - zero_point))
    return (clipped.astype("int32") + tirx.const(zero_point, "int32")).astype("uint8")


def _term(scaled: Expr) -> Expr:
    limit = _float(TERM_LIMIT)
    fine = tirx.nearbyint(scaled * _float(FRACTION))
    return tirx.min(tirx.max(fine, -limit), limit).astype("int32")


def _whole(total: Expr) -> Expr:
    """Round a sum of terms to whole steps."""
    half = tirx.const(1 << FRACTION_BITS - 1, "int32")
    return (total + half) >> tirx.const(FRACTION_BITS, "int32")


def _clip(total: Expr, bounds: Bounds) -> Expr:
    low, high = (tirx.const(bound, "int32") for bound in bounds)
    return tirx.min(tirx.max(total, low), high).astype("uint8")
