"""Staging: copying the input rows of a tile into a scratch buffer, with borders filled and codes widened."""

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.halo import Image
from tersor.targets.cpu.layout.moves import copy_run, fill_run

Expr = Any


@dataclass(frozen=True)
class Window:
    """Where a tile finds its input: row and column pitch, and steps between output pixels, in elements."""

    row_pitch: int
    row_step: int
    column_step: int
    tap_row: int  # distance between window rows
    tap_column: int  # distance between window columns
    size: int  # elements of the scratch buffer; 0 when the input is read in place
    start: int = 0  # where in an image the first window begins


def direct(g: Geometry, source: Image) -> Window:
    """Read the input in place, as `source` lies in memory."""
    return Window(
        source.pitch,
        source.pitch * g.stride[0],
        g.channels * g.stride[1],
        source.pitch * g.dilation[0],
        g.channels * g.dilation[1],
        0,
        source.place(-g.padding[0], -g.padding[1]),
    )


def staged(g: Geometry, rows: int, slack: int) -> Window:
    """Read from a scratch buffer that holds the input of `rows` output rows, and `slack` elements more."""
    if subsamples(g):
        pitch = g.out_width * g.channels
        return Window(pitch, pitch, g.channels, 0, 0, rows * pitch + slack)
    pitch = (g.width + g.padding[1] + g.padding[3]) * g.channels
    return Window(
        pitch,
        pitch * g.stride[0],
        g.channels * g.stride[1],
        pitch * g.dilation[0],
        g.channels * g.dilation[1],
        staged_rows(g, rows) * pitch + slack,
    )


def subsamples(g: Geometry) -> bool:
    """Whether only some pixels are read at all, so that only those are staged."""
    return g.window == (1, 1) and g.stride != (1, 1) and not any(g.padding)


def staged_rows(g: Geometry, rows: int) -> int:
    """Input rows that `rows` output rows read."""
    return rows if subsamples(g) else (rows - 1) * g.stride[0] + (g.window[0] - 1) * g.dilation[0] + 1


def emit_staging(
    g: Geometry,
    source: Image,
    window: Window,
    rows: int,
    x: Expr,
    scratch: Expr,
    image: Expr,
    first_row: Expr,
    fill: float,
) -> None:
    """Copy the input rows of the output rows from `first_row` on into `scratch`; `source` is how x lies."""
    dtype = str(scratch.dtype)
    base = T.bind(image * source.size)
    top, left, _, right = g.padding
    with T.serial(0, staged_rows(g, rows)) as r:
        at = r * window.row_pitch
        row = first_row * g.stride[0] + (r * g.stride[0] if subsamples(g) else r) - top
        start = base + row * source.pitch + source.place(0, 0)
        inside = g.width * g.channels
        if subsamples(g):
            with T.serial(0, g.out_width) as q:
                step = g.channels * g.stride[1]
                copy_run(scratch, at + q * g.channels, x, start + q * step, g.channels, dtype)
        elif source.halo.covers(g.padding):
            copy_run(scratch, at, x, start - left * g.channels, window.row_pitch, dtype)
        else:
            with T.If(T.And(row >= 0, row < g.height)):
                with T.Then():
                    fill_run(scratch, at, left * g.channels, fill, dtype)
                    copy_run(scratch, at + left * g.channels, x, start, inside, dtype)
                    fill_run(scratch, at + (left + g.width) * g.channels, right * g.channels, fill, dtype)
                with T.Else():
                    fill_run(scratch, at, window.row_pitch, fill, dtype)
