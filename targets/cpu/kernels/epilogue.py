"""Epilogues: what happens to an accumulator before it leaves the registers.

The integer ones are `tersor.arithmetic` as vector code. Where rounding comes before clipping there, it comes
after here: bounds are integers and rounding is monotone, so the codes are the same, and one conversion
instruction then rounds and converts.
"""

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.arithmetic import FRACTION, FRACTION_BITS, TERM_LIMIT, UINT8
from tersor.targets.cpu.host.isa import Isa

Expr = Any

# Below this magnitude a rounded accumulator is converted, and added to, without a thought of overflow.
SAFE = float(1 << 30)


@dataclass(frozen=True)
class Residual:
    """A uint8 operand added in the epilogue: its own multiplier to the output's scale, and its zero point."""

    multiplier: float
    zero_point: int


@dataclass(frozen=True)
class Requantize:
    """int32 accumulator -> uint8 codes; float32 multiplier per channel (`arithmetic.requantize[_add]`).

    `bounded` says that no accumulator times its multiplier, in 4096ths of a step where a residual is added,
    reaches `SAFE`, so saturating packs may clip.
    """

    zero_point: int
    bounds: tuple[int, int] = UINT8
    residual: Residual | None = None
    bounded: bool = False

    accumulator = "int32"
    output = "uint8"
    has_multiplier = True

    def emit(self, isa: Isa, acc: Expr, multiplier: Expr, residual: Expr | None) -> Expr:
        """Give the uint8 codes of one vector of accumulators."""
        lanes = isa.lanes
        scaled = T.cast(acc, f"float32x{lanes}") * multiplier
        if residual is None:
            return _saturate(isa, scaled, self.zero_point, self.bounds)
        low, high = self.bounds
        terms = _term(isa, scaled * _float(FRACTION, lanes)) + self._residual_term(isa, residual)
        total = _whole(terms, lanes) + _int(self.zero_point, lanes)
        return T.cast(T.min(T.max(total, _int(low, lanes)), _int(high, lanes)), f"uint8x{lanes}")

    def emit_pair(self, isa: Isa, accs: list[Expr], multipliers: list[Expr], residuals: list[Expr]) -> Expr:
        """Give the codes of two neighbouring vectors by saturating packs; needs `bounded`."""
        lanes = isa.lanes
        scaled = [
            T.cast(acc, f"float32x{lanes}") * multiplier
            for acc, multiplier in zip(accs, multipliers, strict=True)
        ]
        if residuals:
            terms = [_round(isa, each * _float(FRACTION, lanes)) for each in scaled]
            pairs = zip(terms, residuals, strict=True)
            rounded = [_whole(own + self._residual_term(isa, other), lanes) for own, other in pairs]
        else:
            rounded = [_round(isa, each) for each in scaled]
        words = isa.pack_words(*rounded)
        if self.zero_point:
            shift = T.broadcast(T.int16(self.zero_point), lanes * 2)
            words = T.call_llvm_pure_intrin(f"int16x{lanes * 2}", "llvm.sadd.sat", words, shift)
        codes = isa.pack_bytes(words)
        low, high = self.bounds
        if low > UINT8[0]:
            codes = T.max(codes, T.broadcast(T.uint8(low), lanes * 2))
        if high < UINT8[1]:
            codes = T.min(codes, T.broadcast(T.uint8(high), lanes * 2))
        return codes

    def _residual_term(self, isa: Isa, residual: Expr) -> Expr:
        assert self.residual is not None
        lanes = isa.lanes
        centred = T.cast(residual, f"int32x{lanes}") - _int(self.residual.zero_point, lanes)
        scaled = T.cast(centred, f"float32x{lanes}") * _float(self.residual.multiplier, lanes)
        return _term(isa, scaled * _float(FRACTION, lanes))


@dataclass(frozen=True)
class Rescale:
    """int32 accumulator -> float32; float32 scale per channel (`arithmetic.rescale_accumulator`)."""

    accumulator = "int32"
    output = "float32"
    zero_point = 0
    has_multiplier = True
    residual = None
    bounded = False

    def emit(self, isa: Isa, acc: Expr, multiplier: Expr, residual: Expr | None) -> Expr:
        """Give the float32 values of one vector of accumulators."""
        return T.cast(acc, f"float32x{isa.lanes}") * multiplier


@dataclass(frozen=True)
class Activation:
    """float32 accumulator -> float32, with a residual added and the result clipped."""

    low: float | None = None
    high: float | None = None
    residual: bool = False

    accumulator = "float32"
    output = "float32"
    zero_point = 0
    has_multiplier = False
    bounded = False

    def emit(self, isa: Isa, acc: Expr, multiplier: Expr | None, residual: Expr | None) -> Expr:
        """Give the float32 results of one vector of accumulators."""
        value = acc if residual is None else acc + residual
        if self.low is not None:
            value = T.max(value, _float(self.low, isa.lanes))
        if self.high is not None:
            value = T.min(value, _float(self.high, isa.lanes))
        return value


Epilogue = Requantize | Rescale | Activation


@dataclass(frozen=True)
class Output:
    """Where an epilogue reads and writes: the flat buffers, and how many channels of a group exist."""

    multiplier: Expr | None
    residual: Expr | None
    y: Expr
    channels: int


@dataclass(frozen=True)
class Place:
    """Where a vector of a pixel is written, and where what is added to it is read."""

    y: Expr
    residual: Expr

    def __add__(self, elements: Expr) -> "Place":
        return Place(self.y + elements, self.residual + elements)


def emit_pixel(
    epilogue: Epilogue,
    isa: Isa,
    output: Output,
    registers: list[Expr],
    padded_channel: Expr,
    place: Place,
    first: Expr,
) -> None:
    """Finish the accumulators of one pixel and store those whose channel exists.

    `registers` are its vectors in order, the first of them at `padded_channel` of the packed constants, at
    channel `first` of its group, and at `place` of the output.
    """
    lanes, v = isa.lanes, 0
    ragged = output.channels % lanes != 0
    while v < len(registers):
        pairs = isa.packs and epilogue.bounded and not ragged and v + 1 < len(registers)
        if isinstance(epilogue, Requantize) and pairs:
            _store_pair(
                epilogue, isa, output, registers[v : v + 2], padded_channel + v * lanes, place + v * lanes
            )
            v += 2
            continue
        left = output.channels - first - v * lanes if ragged else None
        _store(epilogue, isa, output, registers[v], padded_channel + v * lanes, place + v * lanes, left)
        v += 1


def _store_pair(
    epilogue: Requantize, isa: Isa, output: Output, accs: list[Expr], channel: Expr, at: Place
) -> None:
    lanes = isa.lanes
    assert output.multiplier is not None
    places = [v * lanes for v in range(2)]
    multipliers = [output.multiplier[T.ramp(channel + v, 1, lanes)] for v in places]
    residual = output.residual
    residuals = [] if residual is None else [residual[T.ramp(at.residual + v, 1, lanes)] for v in places]
    codes = epilogue.emit_pair(isa, accs, multipliers, residuals)
    T.buffer_store(output.y, codes, [T.ramp(at.y, 1, lanes * 2)])


def _store(
    epilogue: Epilogue, isa: Isa, output: Output, acc: Expr, channel: Expr, at: Place, left: Expr | None
) -> None:
    """Store one vector; with `left`, only the channels that are left."""
    lanes = isa.lanes
    vector = T.ramp(0, 1, lanes)
    multiplier = None if output.multiplier is None else output.multiplier[T.ramp(channel, 1, lanes)]
    residual = output.residual
    if left is None:
        other = None if residual is None else residual[T.ramp(at.residual, 1, lanes)]
        T.buffer_store(output.y, epilogue.emit(isa, acc, multiplier, other), [T.ramp(at.y, 1, lanes)])
        return
    count = T.bind(T.min(left, lanes))
    other = None
    if residual is not None:
        edge = T.alloc_buffer((lanes,), epilogue.output, scope="local")
        with T.serial(0, count) as i:
            T.buffer_store(edge, residual[at.residual + i], [i])
        other = edge[vector]
    result = T.alloc_buffer((lanes,), epilogue.output, scope="local")
    T.buffer_store(result, epilogue.emit(isa, acc, multiplier, other), [vector])
    with T.serial(0, count) as i:
        T.buffer_store(output.y, result[i], [at.y + i])


def _round(isa: Isa, value: Expr) -> Expr:
    """Round to int32, ties to even."""
    lanes = isa.lanes
    if isa.dot is None:
        return T.cast(T.nearbyint(value), f"int32x{lanes}")
    return T.call_llvm_pure_intrin(f"int32x{lanes}", "llvm.lrint", value)


def _saturate(isa: Isa, scaled: Expr, zero_point: int, bounds: tuple[int, int]) -> Expr:
    """Clip scaled accumulators, round them, and shift them by the zero point to uint8 codes."""
    lanes = isa.lanes
    low, high = (_float(bound - zero_point, lanes) for bound in bounds)
    rounded = _round(isa, T.min(T.max(scaled, low), high))
    return T.cast(rounded + _int(zero_point, lanes), f"uint8x{lanes}")


def _term(isa: Isa, scaled: Expr) -> Expr:
    limit = _float(TERM_LIMIT, isa.lanes)
    return _round(isa, T.min(T.max(scaled, -limit), limit))


def _whole(total: Expr, lanes: int) -> Expr:
    """Round a sum of terms to whole steps."""
    return (total + _int(1 << FRACTION_BITS - 1, lanes)) >> _int(FRACTION_BITS, lanes)


def _float(value: float, lanes: int) -> Expr:
    return T.broadcast(T.float32(value), lanes)


def _int(value: int, lanes: int) -> Expr:
    return T.broadcast(T.int32(value), lanes)
