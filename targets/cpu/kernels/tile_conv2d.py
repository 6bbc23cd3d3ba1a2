"""Integer convolution and dense layers as an implicit GEMM on the tiles of the matrix unit.

A block of tiles accumulates over the window and the input channels. There is no im2col: a tile's rows are
neighbouring output pixels, which lie a constant distance apart in the input or its staged copy, and a window
position is one offset for all of them. Products of one block and the epilogue of the block before it are
emitted together, so that the unit works while the vectors finish what it made.

Weights are packed at compile time, each tile as it is loaded, the same for every tiling.
"""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.host.isa import KERNEL_ATTRIBUTES, Isa
from tersor.targets.cpu.kernels.conv2d import flat
from tersor.targets.cpu.kernels.epilogue import Epilogue, Output, Place, emit_pixel
from tersor.targets.cpu.kernels.staging import emit_staging, staged, staged_rows
from tersor.targets.cpu.kernels.tiles import GROUP, LANES, ROW_BYTES, Block, TileUnit
from tersor.targets.cpu.layout.fold import emit_fold, fold_moves, fold_of, folded
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.halo import NO_HALOS, Halos, emit_border
from tersor.targets.cpu.layout.order import Insert, Order, Permute, Reshape, padded
from tersor.targets.cpu.layout.packing import channel_vectors
from tersor.targets.cpu.mapping.tile_tiling import Depth, Layout, layout_of, lines_of, passes_of, window_of

Array = npt.NDArray[Any]
Expr = Any

# Tiles of weights between the one that is multiplied and the one that is fetched: some 500 cycles.
AHEAD = 8


def tile_order(g: Geometry) -> Order:
    """Give the order of a weight int8 [K, C/groups, R, S] as tiles, flat.

    Order: group, tile of 16 outputs, run of inputs, piece, four inputs, output, input within the four.
    """
    folds, g = fold_moves(g), folded(g)
    depth = Depth(g.run_length)
    runs, tiles = len(g.runs), -(-g.group_outputs // LANES)
    size = depth.pieces * depth.size
    # The last piece reads some inputs again: of these its weights are zero.
    last = (depth.pieces - 1) * depth.size if depth.pieces > 1 else g.run_length
    filled = (Insert(3, last, size - g.run_length),) if size > g.run_length else ()
    return Order(
        (
            *folds,
            Permute((0, 2, 3, 1)),
            Reshape((g.groups, g.group_outputs, runs, g.run_length)),
            *padded(1, g.group_outputs, tiles * LANES),
            *filled,
            Reshape((g.groups, tiles, LANES, runs, depth.pieces, depth.size // GROUP, GROUP)),
            Permute((0, 1, 3, 4, 5, 2, 6)),
            Reshape((g.groups * tiles * LANES * runs * size,)),
        )
    )


def tile_conv2d(
    isa: Isa,
    g: Geometry,
    tiling: Tiling,
    epilogue: Epilogue,
    input_zero_point: int,
    in_shape: tuple[int, ...] | None,
    out_shape: tuple[int, ...] | None,
    halos: Halos = NO_HALOS,
    layout: Layout | None = None,
) -> Any:
    """Build the PrimFunc ``(x NHWC, packed weight, bias, multiplier, [residual NHWC]) -> y NHWC``.

    `in_shape` and `out_shape` name the axes of x and y (a dense layer's are [M, C] and [M, K]); images are
    stored with `halos`. The `layout` is by default the one of the fewest tiles.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("conv2d")
        T.func_attr(dict(KERNEL_ATTRIBUTES))
        gemm = TileGemm(isa, g, tiling, epilogue, input_zero_point, halos, layout)
        gemm.emit(in_shape, out_shape)
    return builder.get()


@dataclass(frozen=True)
class _Corner:
    """Where a block begins: its first tile of pixels, its group, and its first tile of channels in it."""

    tile: Expr
    group: Expr
    vector: Expr
    turn: Expr  # which pass over the inputs
    kept: Expr  # where its sums are put down


class TileGemm:
    """The loops of one convolution around the blocks of tiles, and the block itself."""

    def __init__(
        self,
        isa: Isa,
        g: Geometry,
        tiling: Tiling,
        epilogue: Epilogue,
        input_zero_point: int = 0,
        halos: Halos = NO_HALOS,
        layout: Layout | None = None,
    ) -> None:
        self.isa = isa
        self.g = g
        self.tiling = tiling
        self.epilogue = epilogue
        self.input_zero_point = input_zero_point
        self.seen = folded(g)  # by the tiles
        self.depth = Depth(self.seen.run_length)
        layout = layout or layout_of(g, tiling.rows, halos.input)
        self.source, self.target, self.added = halos.source(g), halos.target(g), halos.added(g)
        self.window = window_of(g, tiling.rows, layout, halos.input)
        self.lines = lines_of(g, tiling.rows, layout, halos.input)
        self.vectors = channel_vectors(isa, g)
        self.pieces = len(self.seen.runs) * self.depth.pieces  # of one sum
        # Where tiles do not divide into blocks, the last block overlaps the one before it.
        self.pixel_blocks = -(-self.lines.tiles // tiling.pixels)
        self.vector_blocks = -(-self.vectors // tiling.vectors)
        self.block = Block(tiling.pixels, tiling.vectors)
        self.passes = passes_of(self.seen, self.block, self.lines.tiles)

    @property
    def reads_in_place(self) -> bool:
        """Whether tiles read the input where it is."""
        return self.window.size == 0

    def emit(self, in_shape: tuple[int, ...] | None, out_shape: tuple[int, ...] | None) -> None:
        """Emit the whole function."""
        g, tiling = self.g, self.tiling
        padded = g.groups * self.vectors * LANES
        x = T.arg("x", T.Buffer(in_shape or (g.batch, *self.source.shape), "uint8"))
        w = T.arg("w", T.Buffer((padded * self.pieces * self.depth.size,), "int8"))
        bias = T.arg("bias", T.Buffer((padded,), "int32"))
        multiplier = T.arg("multiplier", T.Buffer((padded,), "float32"))
        dtype, residual = self.epilogue.output, None
        if self.epilogue.residual:
            residual = T.arg("residual", T.Buffer(out_shape or (g.batch, *self.added.shape), dtype))
        y = flat(T.arg("y", T.Buffer(out_shape or (g.batch, *self.target.shape), dtype)))
        x = flat(x)
        residual = flat(residual) if residual is not None else None
        output = Output(multiplier, residual, y, g.group_outputs)
        chunks = -(-g.out_height // tiling.rows)
        tasks = T.parallel if tiling.parallel else T.serial
        with tasks(0, g.batch * chunks * tiling.parts) as task:
            part = T.bind(task % tiling.parts)
            chunk = T.bind(task // tiling.parts % chunks)
            image = T.bind(task // (tiling.parts * chunks))
            first_row = T.bind(T.min(chunk * tiling.rows, g.out_height - tiling.rows))
            source, base = self._source(x, image, first_row)
            start = T.bind(image * self.target.size)
            out, added = (
                T.bind(image * each.size + first_row * each.pitch + each.place(0, 0))
                for each in (self.target, self.added)
            )
            unit = TileUnit(self.block, self.lines.rows, self.depth.size, self.isa.dot is None)
            kept = self.pixel_blocks if self.passes > 1 else 1
            scratch = T.alloc_buffer((kept * self._sums,), "int32")
            unit.configure()
            self._emit_blocks(unit, (source, base, w, bias), scratch, output, Place(out, added), part)
            unit.release()
            if self.target.halo:
                with T.If(part == 0), T.Then():
                    emit_border(y, self.target, start, first_row, tiling.rows, self.epilogue.zero_point)

    def _source(self, x: Expr, image: Expr, first_row: Expr) -> tuple[Expr, Expr]:
        """Give the buffer that tiles read and the offset of the first output row's input in it."""
        g, window = self.g, self.window
        if not window.size:
            return x, T.bind(image * self.source.size + first_row * window.row_step + window.start)
        scratch = T.alloc_buffer((window.size,), "uint8")
        rows, fill = self.tiling.rows, self.input_zero_point
        fold, seen = fold_of(g), self.seen
        if fold == 1:
            emit_staging(g, self.source, window, rows, x, scratch, image, first_row, fill)
            return scratch, T.int32(0)
        # The last rows of this may stay as they are: they meet zero weights.
        count = staged_rows(seen, rows)
        plain = T.alloc_buffer((fold * count * seen.width * g.channels + ROW_BYTES,), "uint8")
        emit_staging(g, self.source, staged(g, rows, 0), rows, x, plain, image, first_row, fill)
        emit_fold(fold, count, seen.width, g.channels, plain, scratch)
        return scratch, T.int32(0)

    def _emit_blocks(
        self,
        unit: TileUnit,
        sources: tuple[Expr, Expr, Expr, Expr],
        scratch: Expr,
        output: Output,
        out: Place,
        part: Expr,
    ) -> None:
        """Walk over blocks of channels, and in each over blocks of pixels, finishing each a block later."""
        share = -(-self.vector_blocks // self.tiling.parts)
        blocks = self.g.groups * share * self.passes * self.pixel_blocks
        first = T.bind(T.min(part * share, self.vector_blocks - share))
        rows = self.tiling.pixels * self.lines.rows
        slice_rows = -(-rows * self.passes // self.pieces)
        with T.serial(0, blocks) as b:
            corner = self._corner(first, share, b)
            before = self._corner(first, share, T.max(b - 1, 0))
            ended = T.And(b > 0, before.turn == self.passes - 1)
            ready = T.bind(T.if_then_else(ended, rows, 0))

            def finish(piece: Expr, ready: Expr = ready, before: _Corner = before) -> None:
                start = T.bind(piece * slice_rows)
                with T.serial(0, T.max(0, T.min(slice_rows, ready - start))) as row:
                    self._emit_row(scratch, output, out, before, start + row)

            self._emit_sums(unit, sources, scratch, corner, finish)
            unit.store(scratch, corner.kept)
        last = self._corner(first, share, T.int32(blocks - 1))
        with T.serial(0, rows) as row:
            self._emit_row(scratch, output, out, last, row)

    def _corner(self, first: Expr, share: int, index: Expr) -> _Corner:
        """Give a task's block at `index`; of each group's channels it has `share` blocks, from `first` on."""
        tiling = self.tiling
        step = T.bind(index // self.pixel_blocks)
        column = T.bind(step // self.passes)
        number = T.bind(index % self.pixel_blocks)
        tile = T.min(number * tiling.pixels, self.lines.tiles - tiling.pixels)
        vector = T.min((first + column % share) * tiling.vectors, self.vectors - tiling.vectors)
        kept = number * self._sums if self.passes > 1 else T.int32(0)
        turn = T.bind(step % self.passes)
        return _Corner(T.bind(tile), T.bind(column // share), T.bind(vector), turn, T.bind(kept))

    @property
    def _sums(self) -> int:
        """Sums of a block."""
        return self.tiling.pixels * self.tiling.vectors * self.lines.rows * LANES

    def _emit_sums(
        self,
        unit: TileUnit,
        sources: tuple[Expr, Expr, Expr, Expr],
        scratch: Expr,
        corner: _Corner,
        finish: Any,
    ) -> None:
        """Accumulate one pass of a block over window and inputs, with a call of `finish` in each step."""
        seen, window, depth = self.seen, self.window, self.depth
        source, base, w, bias = sources
        vector = T.bind(corner.group * self.vectors + corner.vector)
        if self.passes == 1:
            unit.start(bias, T.bind(vector * LANES))
        else:
            with T.If(corner.turn == 0):
                with T.Then():
                    unit.start(bias, vector * LANES)
                with T.Else():
                    unit.resume(scratch, corner.kept)
        tile_bytes = depth.size * LANES
        pixels = [self._pixel(corner, base, i) for i in range(self.tiling.pixels)]
        channels = [T.bind((vector + v) * (self.pieces * tile_bytes)) for v in range(self.tiling.vectors)]
        rows, columns = seen.window[0], 1 if seen.merges_columns else seen.window[1]
        by_rows = rows > 1
        row_count = rows // self.passes if by_rows else 1
        piece_count = depth.pieces if by_rows else depth.pieces // self.passes
        with T.serial(0, row_count) as r, T.serial(0, columns) as s, T.serial(0, piece_count) as p:
            row = T.bind(corner.turn * row_count + r) if by_rows else T.int32(0)
            piece = p if by_rows else T.bind(corner.turn * piece_count + p)
            offset = T.min(piece * depth.size, depth.last)
            at = T.bind(row * window.tap_row + s * window.tap_column + offset)
            step = T.bind((row * columns + s) * depth.pieces + piece)
            unit.multiply(
                source,
                [pixel + at for pixel in pixels],
                window.column_step,
                w,
                [channel + step * tile_bytes for channel in channels],
            )
            if self.pixel_blocks == 1:
                # Each weight is used once and comes from far; the packed tiles of a block follow one another.
                unit.prefetch(w, [channel + (step + AHEAD) * tile_bytes for channel in channels])
            finish((r * columns + s) * piece_count + p)

    def _pixel(self, corner: _Corner, base: Expr, i: int) -> Expr:
        """Give the offset of the first pixel of a block's tile `i` in the input."""
        line, first = self._position(corner.tile + i)
        inside = line * self.lines.step + first * self.window.column_step
        return T.bind(base + corner.group * self.g.depth + inside)

    def _position(self, tile: Expr) -> tuple[Expr, Expr]:
        """Give the line of a tile and its first pixel in the line."""
        lines = self.lines
        first = T.min(tile % lines.line_tiles * lines.rows, lines.length - lines.rows)
        return T.bind(tile // lines.line_tiles), T.bind(first)

    def _emit_row(self, scratch: Expr, output: Output, out: Place, corner: _Corner, row: Expr) -> None:
        """Finish one row of the stored sums: a pixel, unless it lies between two rows of the output."""
        lines = self.lines
        line, first = self._position(T.bind(corner.tile + row // lines.rows))
        pixel = T.bind(first + row % lines.rows)
        if not lines.pitch:
            self._emit_pixel(scratch, output, out, line, pixel, corner, row)
            return
        line, column = T.bind(pixel // lines.pitch), T.bind(pixel % lines.pitch)
        if lines.pitch <= self.g.out_width:
            self._emit_pixel(scratch, output, out, line, column, corner, row)
            return
        with T.If(column < self.g.out_width), T.Then():
            self._emit_pixel(scratch, output, out, line, column, corner, row)

    def _emit_pixel(
        self, scratch: Expr, output: Output, out: Place, line: Expr, column: Expr, corner: _Corner, row: Expr
    ) -> None:
        g, width = self.g, self.tiling.vectors
        at = T.bind(corner.kept + row * (width * LANES))
        registers = [scratch[T.ramp(at + v * LANES, 1, LANES)] for v in range(width)]
        channel = T.bind(corner.vector * LANES)
        inside = T.bind(column * g.outputs + corner.group * g.group_outputs + channel)
        place = Place(
            T.bind(out.y + line * self.target.pitch + inside),
            T.bind(out.residual + line * self.added.pitch + inside),
        )
        padded = T.bind(corner.group * (self.vectors * LANES) + channel)
        emit_pixel(self.epilogue, self.isa, output, registers, padded, place, channel)
