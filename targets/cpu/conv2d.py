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

from tersor.targets.cpu.epilogue import Epilogue, Output, emit_pixel
from tersor.targets.cpu.geometry import Geometry, Tiling
from tersor.targets.cpu.isa import KERNEL_ATTRIBUTES, Isa, dot_broadcast
from tersor.targets.cpu.packing import channel_vectors, dot_group
from tersor.targets.cpu.staging import Window, direct, emit_staging, staged, subsamples

Expr = Any


def conv2d(
    isa: Isa,
    g: Geometry,
    tiling: Tiling,
    epilogue: Epilogue,
    input_zero_point: int = 0,
    in_shape: tuple[int, ...] | None = None,
    out_shape: tuple[int, ...] | None = None,
) -> Any:
    """Build the PrimFunc ``(x NHWC, packed weight, bias, [multiplier], [residual NHWC]) -> y NHWC``.

    `in_shape` and `out_shape` rename the axes of x and y (a dense layer's are [M, C] and [M, K]).
    """
    kernel = Gemm(isa, g, tiling, epilogue, input_zero_point)
    in_shape = in_shape or (g.batch, g.height, g.width, g.channels)
    out_shape = out_shape or (g.batch, g.out_height, g.out_width, g.outputs)
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("conv2d")
        T.func_attr(dict(KERNEL_ATTRIBUTES))
        kernel.emit(in_shape, out_shape)
    return builder.get()


@dataclass(frozen=True)
class Gemm:
    """The loops of one convolution, and the register tile inside them.

    `pitch` is the distance of neighbouring output pixels in elements, by default the number of outputs.
    """

    isa: Isa
    g: Geometry
    tiling: Tiling
    epilogue: Epilogue
    input_zero_point: int = 0
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
    def _needs_staging(self) -> bool:
        overreads = self.g.run_length % self.group != 0
        strided = subsamples(self.g) and self.dtype == "uint8"
        return any(self.g.padding) or self.staged_dtype != self.dtype or overreads or strided

    @property
    def _window(self) -> Window:
        return staged(self.g, self.tiling.rows, self.group) if self._needs_staging else direct(self.g)

    def emit(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        """Emit the whole function."""
        g, lanes = self.g, self.isa.lanes
        vectors = channel_vectors(self.isa, g)
        padded = g.groups * vectors * lanes
        size = padded * len(g.runs) * self.steps * self.group
        x = T.arg("x", T.Buffer(in_shape, self.dtype))
        w = T.arg("w", T.Buffer((size,), self.weight_dtype))
        bias = T.arg("bias", T.Buffer((padded,), self.epilogue.accumulator))
        multiplier = (
            T.arg("multiplier", T.Buffer((padded,), "float32")) if self.epilogue.has_multiplier else None
        )
        added = self.epilogue.residual
        residual = T.arg("residual", T.Buffer(out_shape, self.epilogue.output)) if added else None
        y = flat(T.arg("y", T.Buffer(out_shape, self.epilogue.output)))
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
            out = (image * (g.out_height * g.out_width) + first_row * g.out_width) * g.outputs
            buffers = (source, w, bias, multiplier, residual, y)
            self.emit_blocks(buffers, base, T.bind(out), part)

    def _source(self, x: Expr, image: Expr, first_row: Expr) -> tuple[Expr, Expr]:
        """Give the buffer that tiles read and the offset of the first output row's input in it."""
        g, window = self.g, self._window
        if not window.size:
            start = image * (g.height * g.width * g.channels) + first_row * window.row_step
            return x, T.bind(start)
        scratch = T.alloc_buffer((window.size,), self.staged_dtype)
        if self.group > 1:
            # What a run's last step reads beyond the input meets zero weights, but must be initialised.
            with T.serial(0, self.group) as i:
                zero = T.cast(T.int32(0), self.staged_dtype)
                T.buffer_store(scratch, zero, [window.size - self.group + i])
        emit_staging(g, window, self.tiling.rows, x, scratch, image, first_row, self.input_zero_point)
        return scratch, T.int32(0)

    def emit_blocks(self, buffers: tuple[Expr, ...], base: Expr, out: Expr, part: Expr) -> None:
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
        self, buffers: tuple[Expr, ...], base: Expr, out: Expr, group: Expr, vector: Expr, width: int
    ) -> None:
        """Walk over the pixels of the staged rows; the last tile overlaps the one before it."""
        g, window = self.g, self._window
        count = self.tiling.rows * g.out_width
        pixels = min(self.tiling.pixels, count)
        with T.serial(0, -(-count // pixels)) as t:
            first = T.bind(T.min(t * pixels, count - pixels))
            at = []
            for i in range(pixels):
                p = first + i
                if window.row_step == window.column_step * g.out_width:
                    offset = p * window.column_step
                else:
                    offset = p // g.out_width * window.row_step + p % g.out_width * window.column_step
                at.append(T.bind(base + group * g.depth + offset))
            self._emit_tile(buffers, at, out + first * (self.pitch or g.outputs), group, vector, width)

    def _emit_tile(
        self, buffers: tuple[Expr, ...], at: list[Expr], out: Expr, group: Expr, vector: Expr, width: int
    ) -> None:
        source, w, bias, multiplier, residual, y = buffers
        g, lanes = self.g, self.isa.lanes
        padded_vector = T.bind(group * channel_vectors(self.isa, g) + vector)
        acc = T.alloc_buffer((len(at) * width * lanes,), self.epilogue.accumulator, scope="local")

        def register(i: int, v: int) -> Expr:
            return T.ramp((i * width + v) * lanes, 1, lanes)

        def channels(v: int) -> Expr:
            return T.ramp((padded_vector + v) * lanes, 1, lanes)

        for v in range(width):
            for i in range(len(at)):
                T.buffer_store(acc, bias[channels(v)], [register(i, v)])
        self._emit_reduction(acc, register, source, w, at, padded_vector, width)
        first = T.bind(vector * lanes)
        channel = T.bind(group * g.group_outputs + first)
        output = Output(multiplier, residual, y, g.group_outputs)
        for i in range(len(at)):
            registers = [acc[register(i, v)] for v in range(width)]
            position = T.bind(out + i * (self.pitch or g.outputs) + channel)
            emit_pixel(self.epilogue, self.isa, output, registers, padded_vector * lanes, position, first)

    def _emit_reduction(
        self, acc: Expr, register: Any, source: Expr, w: Expr, at: list[Expr], vector: Expr, width: int
    ) -> None:
        """Accumulate over window positions and input channels."""
        g, window = self.g, self._window
        lanes = self.isa.lanes
        step_size = width * lanes * self.group
        block = T.bind(vector * (lanes * self.group * len(g.runs) * self.steps))
        rows, columns = g.window[0], 1 if g.merges_columns else g.window[1]

        def steps(tap: Expr, run: Expr) -> None:
            with T.serial(0, self.steps) as k:
                start = T.bind(block + (run * self.steps + k) * step_size)
                for i in range(len(at)):
                    for v in range(width):
                        value = self._dot(
                            acc[register(i, v)],
                            source,
                            at[i] + tap + k * self.group,
                            w,
                            start + v * lanes * self.group,
                        )
                        T.buffer_store(acc, value, [register(i, v)])

        if rows * columns == 1:
            steps(T.int32(0), T.int32(0))
            return
        with T.serial(0, rows) as r, T.serial(0, columns) as s:
            steps(T.bind(r * window.tap_row + s * window.tap_column), r * columns + s)

    def _dot(self, acc: Expr, x: Expr, x_at: Expr, w: Expr, w_at: Expr) -> Expr:
        if self.dtype == "uint8":
            return dot_broadcast(self.isa, acc, x, x_at, w, w_at)
        lanes = self.isa.lanes
        return acc + T.broadcast(x[x_at], lanes) * w[T.ramp(w_at, 1, lanes)]


def flat(buffer: Expr) -> Expr:
    """Alias a buffer as one flat axis."""
    size = 1
    for extent in buffer.shape:
        size *= int(extent)
    return T.decl_buffer((size,), buffer.dtype, data=buffer.data)
