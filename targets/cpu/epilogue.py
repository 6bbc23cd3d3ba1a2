"""Epilogues: what happens to an accumulator before it leaves the registers.

The integer ones are `tersor.arithmetic` as vector code, operation by operation.
"""

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.arithmetic import TERM_LIMIT, UINT8

Expr = Any


@dataclass(frozen=True)
class Residual:
    """A uint8 operand added in the epilogue: its own multiplier to the output's scale, and its zero point."""

    multiplier: float
    zero_point: int


@dataclass(frozen=True)
class Requantize:
    """int32 accumulator -> uint8 codes; float32 multiplier per channel (`arithmetic.requantize[_add]`)."""

    zero_point: int
    bounds: tuple[int, int] = UINT8
    residual: Residual | None = None

    accumulator = "int32"
    output = "uint8"
    has_multiplier = True

    def emit(self, acc: Expr, multiplier: Expr, residual: Expr | None, lanes: int) -> Expr:
        """Give the uint8 codes of one vector of accumulators."""
        scaled = T.nearbyint(T.cast(acc, f"float32x{lanes}") * multiplier)
        low, high = self.bounds
        if self.residual is None or residual is None:
            return saturate(scaled, self.zero_point, self.bounds, lanes)
        centred = T.cast(residual, f"int32x{lanes}") - _int(self.residual.zero_point, lanes)
        other = T.nearbyint(T.cast(centred, f"float32x{lanes}") * _float(self.residual.multiplier, lanes))
        total = _term(scaled, lanes) + _term(other, lanes) + _int(self.zero_point, lanes)
        return T.cast(T.min(T.max(total, _int(low, lanes)), _int(high, lanes)), f"uint8x{lanes}")


@dataclass(frozen=True)
class Rescale:
    """int32 accumulator -> float32; float32 scale per channel (`arithmetic.rescale_accumulator`)."""

    accumulator = "int32"
    output = "float32"
    has_multiplier = True
    residual = None

    def emit(self, acc: Expr, multiplier: Expr, residual: Expr | None, lanes: int) -> Expr:
        """Give the float32 values of one vector of accumulators."""
        return T.cast(acc, f"float32x{lanes}") * multiplier


@dataclass(frozen=True)
class Activation:
    """float32 accumulator -> float32, with a residual added and the result clipped."""

    low: float | None = None
    high: float | None = None
    residual: bool = False

    accumulator = "float32"
    output = "float32"
    has_multiplier = False

    def emit(self, acc: Expr, multiplier: Expr | None, residual: Expr | None, lanes: int) -> Expr:
        """Give the float32 results of one vector of accumulators."""
        value = acc if residual is None else acc + residual
        if self.low is not None:
            value = T.max(value, _float(self.low, lanes))
        if self.high is not None:
            value = T.min(value, _float(self.high, lanes))
        return value


Epilogue = Requantize | Rescale | Activation


def saturate(rounded: Expr, zero_point: int, bounds: tuple[int, int], lanes: int) -> Expr:
    """Clip rounded float32 steps, then shift them by the zero point to uint8 codes."""
    low, high = bounds
    clipped = T.min(T.max(rounded, _float(low - zero_point, lanes)), _float(high - zero_point, lanes))
    return T.cast(T.cast(clipped, f"int32x{lanes}") + _int(zero_point, lanes), f"uint8x{lanes}")


def emit_store(
    epilogue: Epilogue,
    lanes: int,
    acc: Expr,
    multiplier: Expr | None,
    residual: Expr | None,
    y: Expr,
    at: Expr,
    left: Expr | None,
) -> None:
    """Finish one vector of accumulators and store it at `at`; with `left`, only the channels that are left."""
    if left is None:
        other = None if residual is None else residual[T.ramp(at, 1, lanes)]
        T.buffer_store(y, epilogue.emit(acc, multiplier, other, lanes), [T.ramp(at, 1, lanes)])
        return
    count = T.bind(T.min(left, lanes))
    vector = T.ramp(0, 1, lanes)
    other = None
    if residual is not None:
        edge = T.alloc_buffer((lanes,), epilogue.output, scope="local")
        with T.serial(0, count) as i:
            T.buffer_store(edge, residual[at + i], [i])
        other = edge[vector]
    result = T.alloc_buffer((lanes,), epilogue.output, scope="local")
    T.buffer_store(result, epilogue.emit(acc, multiplier, other, lanes), [vector])
    with T.serial(0, count) as i:
        T.buffer_store(y, result[i], [at + i])


def _term(rounded: Expr, lanes: int) -> Expr:
    limit = _float(TERM_LIMIT, lanes)
    return T.cast(T.min(T.max(rounded, -limit), limit), f"int32x{lanes}")


def _float(value: float, lanes: int) -> Expr:
    return T.broadcast(T.float32(value), lanes) if lanes > 1 else T.float32(value)


def _int(value: int, lanes: int) -> Expr:
    return T.broadcast(T.int32(value), lanes) if lanes > 1 else T.int32(value)
