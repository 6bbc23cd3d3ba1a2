"""Tiles: the matrix unit's eight registers of 16 rows by 64 bytes, and what it does with them.

A tile of activations has a pixel in each row and up to 64 input channels; a tile of weights has four input
channels of 16 output channels in each row; their product is added to a tile of int32, a pixel in each row and
16 output channels. On an instruction set that is only described, tiles are buffers and the unit is loops.
"""

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

Expr = Any

REGISTERS = 8
ROWS = 16
ROW_BYTES = 64
LANES = 16  # output channels of a tile
GROUP = 4  # input channels in one lane


@dataclass(frozen=True)
class Block:
    """A product of `pixels` tiles of activations with `channels` tiles of weights, held in the registers.

    The fewer ones stay in a register of their own while the others pass through what registers are left.
    """

    pixels: int
    channels: int

    def __post_init__(self) -> None:
        if self.needed > REGISTERS:
            raise ValueError(
                f"{self.pixels} x {self.channels} tiles need {self.needed} of {REGISTERS} registers"
            )

    @property
    def needed(self) -> int:
        """The least registers that it takes."""
        return self.pixels * self.channels + min(self.pixels, self.channels) + 1

    @property
    def spare(self) -> int:
        """Registers that the more numerous operands pass through."""
        passing = max(self.pixels, self.channels)
        return min(passing, REGISTERS - self.pixels * self.channels - min(self.pixels, self.channels))


class TileUnit:
    """Emits instructions on the tiles of a block, or their description.

    Rows of activations have `size` bytes, a multiple of four up to 64; tiles of pixels have `rows` of them.
    """

    def __init__(self, block: Block, rows: int, size: int, described: bool) -> None:
        self.block = block
        self.rows = rows
        self.size = size
        self.described = described
        self.sums = block.pixels * block.channels
        few = min(block.pixels, block.channels)
        held, passing = (
            range(self.sums, self.sums + few),
            range(self.sums + few, self.sums + few + block.spare),
        )
        self.left, self.right = (held, passing) if block.pixels <= block.channels else (passing, held)
        self.buffers = [self._buffer(tile) for tile in range(passing.stop)] if described else []

    def configure(self) -> None:
        """Tell the unit the extents of all its tiles."""
        if self.described:
            return
        palette = [0] * 64
        palette[0] = 1
        for tile in range(self.sums + len(self.left) + len(self.right)):
            palette[16 + 2 * tile] = self.size if tile in self.left else ROW_BYTES
            palette[48 + tile] = self.size // GROUP if tile in self.right else self.rows
        stored = T.alloc_buffer((64,), "uint8")
        for i, value in enumerate(palette):
            T.buffer_store(stored, T.uint8(value), [i])
        _issue("ldtilecfg", T.address_of(stored[0]))

    def release(self) -> None:
        """Give the registers back: the state that the kernel saves for a thread is small again."""
        if not self.described:
            _issue("tilerelease")

    def start(self, bias: Expr, channel: Expr) -> None:
        """Start every sum with the biases of its output channels, from `channel` on, in every row."""
        for i in range(self.block.pixels):
            for v in range(self.block.channels):
                # Rows that are no bytes apart are one row, as often as there are rows.
                self._load(self._sum(i, v), bias, channel + v * LANES, 0)

    def multiply(
        self, source: Expr, pixels: list[Expr], step: Expr, weights: Expr, channels: list[Expr]
    ) -> None:
        """Add the products of the tiles of `source` at `pixels` and of `weights` at `channels` to the sums.

        `step` is the distance of neighbouring pixels in bytes.
        """

        def left(i: int) -> int:
            tile = self.left[i % len(self.left)]
            self._load(tile, source, pixels[i], step)
            return tile

        def right(v: int) -> int:
            tile = self.right[v % len(self.right)]
            self._load(tile, weights, channels[v], ROW_BYTES)
            return tile

        if self.block.pixels <= self.block.channels:
            kept = [left(i) for i in range(self.block.pixels)]
            for v in range(self.block.channels):
                passing = right(v)
                for i, tile in enumerate(kept):
                    self._multiply(self._sum(i, v), tile, passing)
            return
        kept = [right(v) for v in range(self.block.channels)]
        for i in range(self.block.pixels):
            passing = left(i)
            for v, tile in enumerate(kept):
                self._multiply(self._sum(i, v), passing, tile)

    def prefetch(self, weights: Expr, channels: list[Expr]) -> None:
        """Bring the tiles of `weights` at `channels` nearer, which may lie beyond its end."""
        if self.described:
            return
        for at in channels:
            for line in range(0, self.size * LANES, ROW_BYTES):
                address = T.address_of(weights[at + line])
                # To read, into the second-level cache, data.
                T.evaluate(
                    T.call_llvm_intrin(
                        "void", "llvm.prefetch.p0", address, T.int32(0), T.int32(2), T.int32(1)
                    )
                )

    def store(self, scratch: Expr, at: Expr) -> None:
        """Store the sums as int32 from `at` on: all channels of a pixel, then the next pixel."""
        for tile, place in self._places(at):
            self._store(tile, scratch, place, self.block.channels * LANES)

    def resume(self, scratch: Expr, at: Expr) -> None:
        """Go on with sums that `store` put down."""
        for tile, place in self._places(at):
            self._load(tile, scratch, place, self.block.channels * LANES)

    def _places(self, at: Expr) -> list[tuple[int, Expr]]:
        """Give the tiles of the sums, and where in a scratch buffer each begins."""
        pitch = self.block.channels * LANES
        return [
            (self._sum(i, v), at + (i * self.rows * pitch + v * LANES))
            for i in range(self.block.pixels)
            for v in range(self.block.channels)
        ]

    def _sum(self, i: int, v: int) -> int:
        return i * self.block.channels + v

    def _load(self, tile: int, buffer: Expr, at: Expr, step: Any) -> None:
        """Load a tile from `at` on; its rows are `step` elements apart, bytes or sums."""
        if self.described:
            rows, columns = self._extents(tile)
            with T.serial(0, rows) as r, T.serial(0, columns) as c:
                T.buffer_store(self.buffers[tile], buffer[at + r * step + c], [r * columns + c])
            return
        bytes_apart = step * (4 if tile < self.sums else 1)
        _issue("tileloadd64", T.int8(tile), T.address_of(buffer[at]), T.int64(bytes_apart))

    def _multiply(self, total: int, left: int, right: int) -> None:
        if not self.described:
            _issue("tdpbusd", T.int8(total), T.int8(left), T.int8(right))
            return
        acc, a, b = (self.buffers[tile] for tile in (total, left, right))
        with T.serial(0, self.rows) as r, T.serial(0, LANES) as lane, T.serial(0, self.size // GROUP) as k:
            for j in range(GROUP):
                code = T.cast(a[r * self.size + k * GROUP + j], "int32")
                weight = T.cast(b[k * ROW_BYTES + lane * GROUP + j], "int32")
                T.buffer_store(acc, acc[r * LANES + lane] + code * weight, [r * LANES + lane])

    def _store(self, tile: int, scratch: Expr, at: Expr, pitch: int) -> None:
        if not self.described:
            _issue("tilestored64", T.int8(tile), T.address_of(scratch[at]), T.int64(pitch * 4))
            return
        with T.serial(0, self.rows) as r, T.serial(0, LANES) as lane:
            T.buffer_store(scratch, self.buffers[tile][r * LANES + lane], [r * pitch + lane + at])

    def _extents(self, tile: int) -> tuple[int, int]:
        """Rows and elements of a row."""
        if tile < self.sums:
            return self.rows, LANES
        return (self.rows, self.size) if tile in self.left else (self.size // GROUP, ROW_BYTES)

    def _buffer(self, tile: int) -> Expr:
        rows, columns = self._extents(tile)
        dtype = "int32" if tile < self.sums else "uint8" if tile in self.left else "int8"
        return T.alloc_buffer((rows * columns,), dtype)


def _issue(name: str, *arguments: Expr) -> None:
    T.evaluate(T.call_llvm_intrin("void", f"llvm.x86.{name}", *arguments))
