"""Fold: the rows that a strided window skips become channels, so that few channels fill more of a tile.

    x [H, W, C], stride F over rows   ->   [H/F, W, F*C], stride 1, row F*j + i in channels i*C to (i+1)*C

A row of a 7x7 window on three channels has 21 inputs of the 64 that a tile takes at once. With stride 2 two
rows lie side by side: four products of 42 inputs in place of seven of 21.
"""

from dataclasses import replace
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.kernels.tiles import ROW_BYTES
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.order import Move, Permute, Reshape, padded

Expr = Any

# Pixels that are brought together at a time, and the rows and channels for which they fit in vectors.
PIXELS = 16
MOST_CHANNELS = ROW_BYTES // PIXELS
MOST_ROWS = 4
# As long as these take the products of a tile are hidden behind its epilogue, and folding saves nothing.
HIDDEN_PRODUCTS = 4


def fold_of(g: Geometry) -> int:
    """Give how many rows become channels; 1 where that would save little."""
    rows, (_, left, _, right) = g.stride[0], g.padding
    simple = g.groups == 1 and g.dilation == (1, 1) and g.width + left + right >= PIXELS
    if not simple or not 1 < rows <= MOST_ROWS or g.channels > MOST_CHANNELS:
        return 1
    before, after = (products(each) for each in (g, _folded(g, rows)))
    return rows if before > HIDDEN_PRODUCTS and after < before else 1


def products(g: Geometry) -> int:
    """Products of tiles in one sum, each of a part of a window's row."""
    return len(g.runs) * -(-g.run_length // ROW_BYTES)


def folded(g: Geometry) -> Geometry:
    """Give the convolution as the tiles see it: of an image that is padded and folded; `g` if it is not."""
    rows = fold_of(g)
    return g if rows == 1 else _folded(g, rows)


def fold_moves(g: Geometry) -> tuple[Move, ...]:
    """Give what brings a weight [K, C, R, S] to the window of `folded`, with zeros in rows that it lacks."""
    rows = fold_of(g)
    if rows == 1:
        return ()
    height, width = g.window
    count = -(-height // rows)
    return (
        *padded(2, height, count * rows),
        Reshape((g.outputs, g.channels, count, rows, width)),
        Permute((0, 3, 1, 2, 4)),
        Reshape((g.outputs, rows * g.channels, count, width)),
    )


def emit_fold(rows: int, count: int, width: int, channels: int, plain: Expr, scratch: Expr) -> None:
    """Fold `count` times `rows` rows of `plain` [rows * count, width, channels] into `scratch`.

    `plain` has a vector behind its end, which is read and dropped.
    """
    pixel = rows * channels
    order = [
        i * ROW_BYTES + p * channels + c for p in range(PIXELS) for i in range(rows) for c in range(channels)
    ]
    with T.serial(0, count) as row, T.serial(0, -(-width // PIXELS)) as block:
        first = T.bind(T.min(block * PIXELS, width - PIXELS))
        start = row * rows * width * channels + first * channels
        taken = [plain[T.ramp(start + i * width * channels, 1, ROW_BYTES)] for i in range(rows)]
        vectors = [T.bind(each) for each in taken]
        target = T.bind((row * width + first) * pixel)
        for at in range(0, len(order), ROW_BYTES):
            part = order[at : at + ROW_BYTES]
            mixed = T.Shuffle(vectors, [T.int32(i) for i in part])
            T.buffer_store(scratch, mixed, [T.ramp(target + at, 1, len(part))])


def _folded(g: Geometry, rows: int) -> Geometry:
    _, left, _, right = g.padding
    count = -(-g.window[0] // rows)
    return replace(
        g,
        height=g.out_height + count - 1,
        width=g.width + left + right,
        channels=g.channels * rows,
        window=(count, g.window[1]),
        stride=(1, g.stride[1]),
        padding=(0, 0, 0, 0),
    )
