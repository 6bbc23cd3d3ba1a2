"""Convolution and dense layers as an implicit GEMM on register tiles, integer and float alike.

A tile is a few output pixels by a few vectors of output channels, held in registers while the loops run over
the window and the input channels: each step broadcasts one group of inputs per pixel and multiplies it with
one vector of weights per vector. No im2col matrix exists: pixel p of a tile reads the input (or its staged
copy, see `staging`) at its own base address, and a window position is one offset for all of them.

Weights are packed at compile time in exactly the order in which the tile consumes them, see `packing`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.host.isa import KERNEL_ATTRIBUTES, Isa, dot_broadcast
from tersor.targets.cpu.kernels.epilogue import Epilogue, Output, Place, emit_pixel
from tersor.targets.cpu.kernels.staging import Window, direct, emit_staging, staged, subsamples
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.halo import NO_HALOS, Halos, Image, emit_border
from tersor.targets.cpu.layout.packing import channel_vectors, dot_group

Expr = Any


def conv2d(
    isa: Isa,
    g: Geometry,
    tiling: Tiling,
    epilogue: Epilogue,
    input_zero_point: int = 0,
    in_shape: tuple[int, ...] | None = None,
    out_shape: tuple[int, ...] | None = None,
    halos: Halos = NO_HALOS,
) -> Any:
    """Build the PrimFunc ``(x NHWC, packed weight, bias, [multiplier], [residual NHWC]) -> y NHWC``.

    `in_shape` and `out_shape` rename the axes of x and y (a dense layer's are [M, C] and [M, K]); images are
    stored with `halos`.
    """
    kernel = Gemm(isa, g, tiling, epilogue, input_zero_point, halos)
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("conv2d")
        T.func_attr(dict(KERNEL_ATTRIBUTES))
        kernel.emit(in_shape, out_shape)
    return builder.get()


@dataclass(frozen=True)
class Gemm:
    """The loops of one convolution, and the register tile inside them.

    `pitch` is the distance of neighbouring output pixels in elements, by default the number of outputs; then
    there is no halo.
    """

    isa: Isa
    g: Geometry
    tiling: Tiling
    epilogue: Epilogue
    input_zero_point: int = 0
    halos: Halos = NO_HALOS
    pitch: int | None = None

    @property
    def dtype(self) -> str:
        """Of the activations."""
        return "uint8" if self.epilogue.accumulator == "int32" else "float32"

    @property
    def weight_dtype(self) -> str:
        """Of the packed weight."""
        return "int8" if self.dtype == "uint8" else "float32"

    @property
    def group(self) -> int:
        """Neighbouring inputs that one step multiplies."""
        return dot_group(self.isa, np.dtype(self.weight_dtype))

    @property
    def steps(self) -> int:
        """Steps over one run of inputs."""
        return -(-self.g.run_length // self.group)

    @property
    def staged_dtype(self) -> str:
        """Of activations in a scratch buffer."""
        return self.isa.staged if self.dtype == "uint8" else "float32"

    @property
    def reads_in_place(self) -> bool:
        """Whether tiles read the input where it is."""
        overreads = self.g.run_length % self.group != 0
        strided = subsamples(self.g) and self.dtype == "uint8"
        padded = self.source.halo.covers(self.g.padding)
        return padded and self.staged_dtype == self.dtype and not overreads and not strided

    @property
    def window(self) -> Window:
        """Where tiles find their input."""
        if self.reads_in_place:
            return direct(self.g, self.source)
        return staged(self.g, self.tiling.rows, self.group)

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

    def emit(self, in_shape: tuple[int, ...] | None, out_shape: tuple[int, ...] | None) -> None:
        """Emit the whole function."""
        g, lanes = self.g, self.isa.lanes
        vectors = channel_vectors(self.isa, g)
        padded = g.groups * vectors * lanes
        size = padded * len(g.runs) * self.steps * self.group
        x = T.arg("x", T.Buffer(in_shape or (g.batch, *self.source.shape), self.dtype))
        w = T.arg("w", T.Buffer((size,), self.weight_dtype))
        bias = T.arg("bias", T.Buffer((padded,), self.epilogue.accumulator))
        multiplier = (
            T.arg("multiplier", T.Buffer((padded,), "float32")) if self.epilogue.has_multiplier else None
        )
        dtype = self.epilogue.output
        residual = None
        if self.epilogue.residual:
            residual = T.arg("residual", T.Buffer(out_shape or (g.batch, *self.added.shape), dtype))
        y = flat(T.arg("y", T.Buffer(out_shape or (g.batch, *self.target.shape), dtype)))
        x = flat(x)
        residual = flat(residual) if residual is not None else None
        chunks = -(-g.out_height // self.tiling.rows)
        tasks = T.parallel if self.tiling.parallel else T.serial
        with tasks(0, g.batch * chunks * self.tiling.parts) as task:
            part = T.bind(task % self.tiling.parts)
            chunk = T.bind(task // self.tiling.parts % chunks)
            image = T.bind(task // (self.tiling.parts * chunks))
            first_row = T.bind(T.min(chunk * self.tiling.rows, g.out_height - self.tiling.rows))
            source, base = self._source(x, image, first_row)
            buffers = (source, w, bias, multiplier, residual, y)
            start = T.bind(image * self.target.size)
            out, added = (
                T.bind(image * each.size + first_row * each.pitch + each.place(0, 0))
                for each in (self.target, self.added)
            )
            self.emit_blocks(buffers, base, Place(out, added), part)
            if self.target.halo:
                with T.If(part == 0), T.Then():
                    emit_border(y, self.target, start, first_row, self.tiling.rows, self.epilogue.zero_point)

    def _source(self, x: Expr, image: Expr, first_row: Expr) -> tuple[Expr, Expr]:
        """Give the buffer that tiles read and the offset of the first output row's input in it."""
        g, window = self.g, self.window
        if not window.size:
            return x, T.bind(image * self.source.size + first_row * window.row_step + window.start)
        scratch = T.alloc_buffer((window.size,), self.staged_dtype)
        if self.group > 1:
            # What a run's last step reads beyond the input meets zero weights, but must be initialised.
            with T.serial(0, self.group) as i:
                zero = T.cast(T.int32(0), self.staged_dtype)
                T.buffer_store(scratch, zero, [window.size - self.group + i])
        rows, fill = self.tiling.rows, self.input_zero_point
        emit_staging(g, self.source, window, rows, x, scratch, image, first_row, fill)
        return scratch, T.int32(0)

    def emit_blocks(self, buffers: tuple[Expr, ...], base: Expr, out: Place, part: Expr) -> None:
        """Walk over blocks of output channels: the parts share whole ones, the last takes the rest.

        `buffers` are the input, packed weight, bias, multiplier, residual and output, all flat; the first
        pixel reads the input from `base` on and writes the output from `out` on.
        """
        width = self.tiling.vectors
        vectors = channel_vectors(self.isa, self.g)
        whole, rest = divmod(vectors, width)
        share = -(-whole // self.tiling.parts)
        with T.serial(0, self.g.groups) as group:
            if whole:
                with T.serial(0, share) as b:
                    block = T.bind(T.min(part * share, whole - share) + b)
                    self._emit_pixels(buffers, base, out, group, block * width, width)
            if rest:
                with T.If(part == self.tiling.parts - 1), T.Then():
                    self._emit_pixels(buffers, base, out, group, T.int32(whole * width), rest)

    def _emit_pixels(
        self, buffers: tuple[Expr, ...], base: Expr, out: Place, group: Expr, vector: Expr, width: int
    ) -> None:
        """Walk over the pixels of the staged rows; all of the reduction happens in registers."""
        block = _Block(self, buffers, base, out, group, vector, width)
        with T.serial(0, block.tiles) as t:
            acc = block.start()
            block.reduce(acc, t)
            block.finish(acc, t)

    def dot(self, acc: Expr, x: Expr, x_at: Expr, w: Expr, w_at: Expr) -> Expr:
        """Accumulate one step of one pixel and one vector of channels."""
        if self.dtype == "uint8":
            return dot_broadcast(self.isa, acc, x, x_at, w, w_at)
        lanes = self.isa.lanes
        return acc + T.broadcast(x[x_at], lanes) * w[T.ramp(w_at, 1, lanes)]


class _Block:
    """A block of output channels over the staged pixels, and the steps of a register tile in it."""

    def __init__(
        self,
        gemm: Gemm,
        buffers: tuple[Expr, ...],
        base: Expr,
        out: Place,
        group: Expr,
        vector: Expr,
        width: int,
    ) -> None:
        g, lanes = gemm.g, gemm.isa.lanes
        self.gemm, self.buffers, self.width = gemm, buffers, width
        self.base = T.bind(base + group * g.depth)
        self.all_pixels = gemm.tiling.rows * g.out_width
        self.height = min(gemm.tiling.pixels, self.all_pixels)
        self.tiles = -(-self.all_pixels // self.height)
        self.size = self.height * width * lanes
        padded_vector = group * channel_vectors(gemm.isa, g) + vector
        self.channel = T.bind(padded_vector * lanes)
        self.weights = T.bind(padded_vector * (lanes * gemm.group * len(g.runs) * gemm.steps))
        self.first = T.bind(vector * lanes)
        channel = T.bind(group * g.group_outputs + vector * lanes)
        self.out = out + channel

    def start(self) -> Expr:
        """Begin the accumulators of a tile with the bias."""
        lanes = self.gemm.isa.lanes
        acc = T.alloc_buffer((self.size,), self.gemm.epilogue.accumulator, scope="local")
        for v in range(self.width):
            for i in range(self.height):
                bias = self.buffers[2][T.ramp(self.channel + v * lanes, 1, lanes)]
                T.buffer_store(acc, bias, [self._register(i, v)])
        return acc

    def reduce(self, acc: Expr, t: Expr) -> None:
        """Accumulate over window positions and input channels."""
        gemm, window = self.gemm, self.gemm.window
        offsets = self._offsets(t, window.row_step, window.column_step)
        at = [T.bind(self.base + offset) for offset in offsets]
        columns = 1 if gemm.g.merges_columns else gemm.g.window[1]
        if len(gemm.g.runs) == 1:
            self._steps(acc, at, T.int32(0), T.int32(0))
            return
        with T.serial(0, len(gemm.g.runs)) as run:
            tap = run // columns * window.tap_row + run % columns * window.tap_column
            self._steps(acc, at, T.bind(tap), run)

    def _steps(self, acc: Expr, at: list[Expr], tap: Expr, run: Expr) -> None:
        """Accumulate over one run of inputs, which begins `tap` elements after the pixels' own."""
        gemm = self.gemm
        written = gemm.tiling.steps
        if gemm.steps % written:
            raise ValueError(f"a run of {gemm.steps} steps cannot be written out {written} at a time")
        with T.serial(0, gemm.steps // written) as turn:
            for i in range(written):
                self._step(acc, at, tap, run, turn * written + i)

    def _step(self, acc: Expr, at: list[Expr], tap: Expr, run: Expr, k: Expr) -> None:
        gemm = self.gemm
        vector = gemm.isa.lanes * gemm.group
        weights = T.bind(self.weights + (run * gemm.steps + k) * (self.width * vector))
        for i in range(self.height):
            for v in range(self.width):
                place = self._register(i, v)
                x_at, w_at = at[i] + tap + k * gemm.group, weights + v * vector
                value = gemm.dot(acc[place], self.buffers[0], x_at, self.buffers[1], w_at)
                T.buffer_store(acc, value, [place])

    def finish(self, acc: Expr, t: Expr) -> None:
        """Put tile `t` through the epilogue and store it."""
        gemm = self.gemm
        _, _, _, multiplier, residual, y = self.buffers
        output = Output(multiplier, residual, y, gemm.g.group_outputs)
        for i, place in enumerate(self._places(t)):
            registers = [acc[self._register(i, v)] for v in range(self.width)]
            emit_pixel(gemm.epilogue, gemm.isa, output, registers, self.channel, place, self.first)

    def _places(self, t: Expr) -> list[Place]:
        """Give where each pixel of tile `t` is written, and where what is added to it is read."""
        gemm = self.gemm
        if gemm.pitch:
            written = self._offsets(t, gemm.pitch * gemm.g.out_width, gemm.pitch)
        else:
            written = self._offsets(t, gemm.target.pitch, gemm.g.outputs)
        read = written
        if gemm.epilogue.residual and gemm.added != gemm.target:
            read = self._offsets(t, gemm.added.pitch, gemm.g.outputs)
        return [
            Place(T.bind(self.out.y + y), T.bind(self.out.residual + residual))
            for y, residual in zip(written, read, strict=True)
        ]

    def _register(self, i: int, v: int) -> Expr:
        lanes = self.gemm.isa.lanes
        return T.ramp((i * self.width + v) * lanes, 1, lanes)

    def _offsets(self, t: Expr, row_step: int, column_step: int) -> list[Expr]:
        """Give the offset of each pixel of tile `t`; the last tile overlaps the one before it."""
        width = self.gemm.g.out_width
        first = T.bind(T.min(t * self.height, self.all_pixels - self.height))
        pixels = range(self.height)
        if row_step == width * column_step:
            return [(first + i) * column_step for i in pixels]
        if self.height > width:
            return [(first + i) // width * row_step + (first + i) % width * column_step for i in pixels]
        row, column = T.bind(first // width), T.bind(first % width)
        start = T.bind(row * row_step + column * column_step)
        gap = row_step - width * column_step  # a tile reaches the next row at most
        return [
            start + i * column_step + T.Select(column + i >= width, T.int32(gap), T.int32(0)) for i in pixels
        ]


def flat(buffer: Expr) -> Expr:
    """Alias a buffer as one flat axis."""
    size = 1
    for extent in buffer.shape:
        size *= int(extent)
    return T.decl_buffer((size,), buffer.dtype, data=buffer.data)
