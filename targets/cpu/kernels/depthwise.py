"""Depthwise convolution: one vector of channels, a few neighbouring output pixels, all taps unrolled.

Integer taps are taken in pairs of window rows: the codes of two rows at one column are interleaved once and
serve every output pixel whose window covers the column, each with one multiply-add of int16 pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.host.isa import KERNEL_ATTRIBUTES, Isa, load_int16, madd
from tersor.targets.cpu.host.threads import worth_sharing
from tersor.targets.cpu.kernels.conv2d import flat
from tersor.targets.cpu.kernels.epilogue import Epilogue, Output, Place, emit_pixel
from tersor.targets.cpu.kernels.staging import Window, direct, emit_staging, staged
from tersor.targets.cpu.layout.geometry import Geometry, Tiling, balanced_rows
from tersor.targets.cpu.layout.halo import NO_HALOS, Halos, Image, emit_border
from tersor.targets.cpu.layout.order import Order, Permute, Reshape, padded

Array = npt.NDArray[Any]
Expr = Any


# Bytes of scratch that a task may stage.
STAGED_BYTES = 64 * 1024
# The share of the usual rate of multiply-accumulates: each input meets one weight only.
EFFICIENCY = 0.25


def depthwise_order(isa: Isa, g: Geometry, dtype: np.dtype[Any]) -> Order:
    """Give the order of a weight [C, 1, R, S], flat.

    int8 lies as [C/lanes][R/2][S][lane][2], float32 as [C/lanes][R][S][lane].
    """
    group = 2 if dtype == np.int8 else 1
    rows, columns = g.window
    pairs, blocks = -(-rows // group), _blocks(isa, g)
    return Order(
        (
            *padded(0, g.channels, blocks * isa.lanes),
            *padded(2, rows, pairs * group),
            Reshape((blocks, isa.lanes, pairs, group, columns)),
            Permute((0, 2, 4, 1, 3)),
            Reshape((blocks * isa.lanes * pairs * group * columns,)),
        )
    )


def pack_depthwise_channels(isa: Isa, g: Geometry, values: Array) -> Array:
    """Pad values per channel [C] to whole vectors, with zeros."""
    padded = np.zeros(_blocks(isa, g) * isa.lanes, values.dtype)
    padded[: g.channels] = values
    return padded


def default_depthwise_tiling(isa: Isa, g: Geometry, cores: int, integer: bool) -> Tiling:
    """Choose the tiling analytically: pixels that divide a row, rows staged inside the first-level cache."""
    row = (g.width + g.padding[1] + g.padding[3]) * g.channels * (1 if integer else 4) * g.stride[0]
    rows = max(1, min(g.out_height, STAGED_BYTES // row))
    cores = cores if worth_sharing(isa, g.macs, integer, EFFICIENCY) else 1
    chunks = max(-(-g.out_height // rows), min(g.out_height, -(-cores // g.batch)))
    pixels = next((count for count in (7, 6, 5) if g.out_width % count == 0), min(4, g.out_width))
    rows = balanced_rows(g, chunks, cores)
    parallel = cores > 1 and g.batch * -(-g.out_height // rows) > 1
    return Tiling(pixels, min(2, _blocks(isa, g)), rows, 1, parallel)


def depthwise(
    isa: Isa,
    g: Geometry,
    tiling: Tiling,
    epilogue: Epilogue,
    input_zero_point: int = 0,
    halos: Halos = NO_HALOS,
) -> Any:
    """Build the PrimFunc ``(x NHWC, packed weight, bias, [multiplier], [residual NHWC]) -> y NHWC``.

    Images are stored with `halos`.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("depthwise")
        T.func_attr(dict(KERNEL_ATTRIBUTES))
        Depthwise(isa, g, tiling, epilogue, input_zero_point, halos).emit()
    return builder.get()


@dataclass(frozen=True)
class Depthwise:
    """The loops of one depthwise convolution."""

    isa: Isa
    g: Geometry
    tiling: Tiling
    epilogue: Epilogue
    input_zero_point: int = 0
    halos: Halos = NO_HALOS

    @property
    def integer(self) -> bool:
        """Whether codes are multiplied, not floats."""
        return self.epilogue.accumulator == "int32"

    @property
    def group(self) -> int:
        """Rows of the window that one step multiplies."""
        return 2 if self.integer else 1

    @property
    def pairs(self) -> int:
        """Steps over the rows of the window."""
        return -(-self.g.window[0] // self.group)

    @property
    def block_size(self) -> int:
        """Weights of one vector of channels."""
        return self.pairs * self.g.window[1] * self.isa.lanes * self.group

    @property
    def source(self) -> Image:
        """How the input lies in memory."""
        return self.halos.source(self.g)

    @property
    def target(self) -> Image:
        """How the output lies in memory."""
        return self.halos.target(self.g)

    @property
    def added(self) -> Image:
        """How the residual lies in memory."""
        return self.halos.added(self.g)

    @property
    def reads_in_place(self) -> bool:
        """Whether the input is read where it is.

        A vector of channels may read beyond the last channel, so the last pixel needs slack behind it.
        """
        return self.source.halo.covers(self.g.padding) and self.g.channels % self.isa.lanes == 0

    @property
    def window(self) -> Window:
        """Where the taps find their input."""
        if self.reads_in_place:
            return direct(self.g, self.source)
        return staged(self.g, self.tiling.rows, self.isa.lanes)

    def emit(self) -> None:
        """Emit the whole function."""
        g, tiling, epilogue = self.g, self.tiling, self.epilogue
        blocks = _blocks(self.isa, g)
        dtype = "uint8" if self.integer else "float32"
        x = T.arg("x", T.Buffer((g.batch, *self.source.shape), dtype))
        w = T.arg("w", T.Buffer((blocks * self.block_size,), "int8" if self.integer else dtype))
        bias = T.arg("bias", T.Buffer((blocks * self.isa.lanes,), epilogue.accumulator))
        scaled = epilogue.has_multiplier
        multiplier = T.arg("multiplier", T.Buffer((blocks * self.isa.lanes,), "float32")) if scaled else None
        residual = None
        if epilogue.residual:
            residual = T.arg("residual", T.Buffer((g.batch, *self.added.shape), epilogue.output))
        y = flat(T.arg("y", T.Buffer((g.batch, *self.target.shape), epilogue.output)))
        x = flat(x)
        residual = None if residual is None else flat(residual)
        chunks = -(-g.out_height // tiling.rows)
        with (T.parallel if tiling.parallel else T.serial)(0, g.batch * chunks) as task:
            image = T.bind(task // chunks)
            first_row = T.bind(T.min(task % chunks * tiling.rows, g.out_height - tiling.rows))
            source, base = self._source(x, image, first_row, dtype)
            start = T.bind(image * self.target.size)
            out, added = (
                T.bind(image * each.size + first_row * each.pitch + each.place(0, 0))
                for each in (self.target, self.added)
            )
            out = Place(out, added)
            buffers = (source, w, bias, multiplier, residual, y)
            whole, rest = divmod(blocks, tiling.vectors)
            if whole:
                with T.serial(0, whole) as block:
                    self._emit_rows(buffers, base, out, T.bind(block * tiling.vectors), tiling.vectors)
            if rest:
                self._emit_rows(buffers, base, out, T.int32(whole * tiling.vectors), rest)
            if self.target.halo:
                emit_border(y, self.target, start, first_row, tiling.rows, epilogue.zero_point)

    def _emit_rows(self, buffers: tuple[Expr, ...], base: Expr, out: Place, vector: Expr, width: int) -> None:
        """Walk over the pixels of the staged rows with `width` vectors of channels."""
        g, tiling, window = self.g, self.tiling, self.window
        weights = self._load_weights(buffers[1], vector, width)
        with T.serial(0, tiling.rows) as row, T.serial(0, -(-g.out_width // tiling.pixels)) as t:
            column = T.bind(T.min(t * tiling.pixels, g.out_width - tiling.pixels))
            offset = row * window.row_step + column * window.column_step
            at = T.bind(base + offset + vector * self.isa.lanes)
            place = Place(
                T.bind(out.y + row * self.target.pitch + column * g.channels),
                T.bind(out.residual + row * self.added.pitch + column * g.channels),
            )
            self._emit_tile(buffers, weights, at, place, vector, width)

    def _source(self, x: Expr, image: Expr, first_row: Expr, dtype: str) -> tuple[Expr, Expr]:
        g, window = self.g, self.window
        if not window.size:
            return x, T.bind(image * self.source.size + first_row * window.row_step + window.start)
        scratch = T.alloc_buffer((window.size,), dtype)
        with T.serial(0, self.isa.lanes) as i:
            zero = T.cast(T.int32(0), dtype)
            T.buffer_store(scratch, zero, [window.size - self.isa.lanes + i])
        rows, fill = self.tiling.rows, self.input_zero_point
        emit_staging(g, self.source, window, rows, x, scratch, image, first_row, fill)
        return scratch, T.int32(0)

    def _load_weights(self, w: Expr, vector: Expr, width: int) -> Expr:
        """Widen the weights of some vectors of channels once; they serve all their pixels."""
        lane = self.isa.lanes * self.group
        size = self.block_size * width
        weights = T.alloc_buffer((size,), "int16" if self.integer else "float32", scope="local")
        with T.serial(0, size // lane) as i:
            at = vector * self.block_size + i * lane
            value = load_int16(w, at, lane) if self.integer else w[T.ramp(at, 1, lane)]
            T.buffer_store(weights, value, [T.ramp(i * lane, 1, lane)])
        return weights

    def _emit_tile(
        self, buffers: tuple[Expr, ...], weights: Expr, at: Expr, out: Place, vector: Expr, width: int
    ) -> None:
        source, _, bias, multiplier, residual, y = buffers
        lanes, pixels = self.isa.lanes, self.tiling.pixels
        acc = T.alloc_buffer((pixels * width * lanes,), self.epilogue.accumulator, scope="local")
        first = T.bind(vector * lanes)

        def register(p: int, v: int) -> Expr:
            return T.ramp((p * width + v) * lanes, 1, lanes)

        for v in range(width):
            for p in range(pixels):
                T.buffer_store(acc, bias[T.ramp(first + v * lanes, 1, lanes)], [register(p, v)])
            self._emit_taps(acc, register, source, weights, at, v)
        output = Output(multiplier, residual, y, self.g.channels)
        for p in range(pixels):
            registers = [acc[register(p, v)] for v in range(width)]
            place = out + (first + p * self.g.channels)
            emit_pixel(self.epilogue, self.isa, output, registers, first, place, first)

    def _emit_taps(self, acc: Expr, register: Any, source: Expr, weights: Expr, at: Expr, v: int) -> None:
        """Accumulate all taps of one vector of channels."""
        g, lanes, pixels = self.g, self.isa.lanes, self.tiling.pixels
        # Not the stride itself: staging may have left out the columns that nothing reads.
        step, dilation = self.window.column_step // g.channels, g.dilation[1]
        for pair in range(self.pairs):
            for column in range((pixels - 1) * step + (g.window[1] - 1) * dilation + 1):
                taps = [
                    (p, s)
                    for p in range(pixels)
                    for s in range(g.window[1])
                    if p * step + s * dilation == column
                ]
                if not taps:
                    continue
                codes = self._load(source, at + column * g.channels + v * lanes, pair)
                for p, s in taps:
                    tap = v * self.block_size + (pair * g.window[1] + s) * lanes * self.group
                    value = self._multiply_add(acc[register(p, v)], codes, weights, tap)
                    T.buffer_store(acc, value, [register(p, v)])

    def _load(self, source: Expr, at: Expr, pair: int) -> list[Expr]:
        """Load one column: a float vector, or the codes of a pair of rows, interleaved where the CPU can."""
        g, lanes = self.g, self.isa.lanes
        rows = range(pair * self.group, min(g.window[0], (pair + 1) * self.group))
        loaded = [source[T.ramp(at + r * self.window.tap_row, 1, lanes)] for r in rows]
        if not self.integer:
            return [T.bind(loaded[0])]
        if self.isa.dot is None:
            return [T.bind(T.cast(codes, f"int32x{lanes}")) for codes in loaded]
        if len(loaded) == 1:
            return [T.bind(T.reinterpret(f"int16x{lanes * 2}", T.cast(loaded[0], f"int32x{lanes}")))]
        order = [half * lanes + i for i in range(lanes) for half in (0, 1)]
        pairs = T.Shuffle(loaded, [T.int32(i) for i in order])
        return [T.bind(T.cast(pairs, f"int16x{lanes * 2}"))]

    def _multiply_add(self, acc: Expr, codes: list[Expr], weights: Expr, tap: int) -> Expr:
        lanes = self.isa.lanes
        if not self.integer:
            return acc + codes[0] * weights[T.ramp(tap, 1, lanes)]
        if self.isa.dot is not None:
            return acc + madd(self.isa, codes[0], weights[T.ramp(tap, 1, lanes * 2)])
        for j, code in enumerate(codes):
            acc = acc + code * T.cast(weights[T.ramp(tap + j, 2, lanes)], f"int32x{lanes}")
        return acc


def _blocks(isa: Isa, g: Geometry) -> int:
    return -(-g.channels // isa.lanes)
