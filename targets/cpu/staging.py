"""Staging: copying the input rows of a tile into a scratch buffer, with borders filled and codes widened."""

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.geometry import Geometry

Expr = Any

# Elements moved by one vector copy; the buffers behind are byte-sized, so this is one or two registers.
COPY_LANES = 16


@dataclass(frozen=True)
class Window:
    """Where a tile finds its input: row and column pitch, and steps between output pixels, in elements."""

    row_pitch: int
    row_step: int
    column_step: int
    tap_row: int  # distance between window rows
    tap_column: int  # distance between window columns
    size: int  # elements of the scratch buffer; 0 when the input is read in place


def direct(g: Geometry) -> Window:
    """Read the input in place."""
    pitch = g.width * g.channels
    return Window(
        pitch,
        pitch * g.stride[0],
        g.channels * g.stride[1],
        pitch * g.dilation[0],
        g.channels * g.dilation[1],
        0,
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
    g: Geometry, window: Window, rows: int, x: Expr, scratch: Expr, image: Expr, first_row: Expr, fill: float
) -> None:
    """Copy the input rows of the output rows from `first_row` on into `scratch`."""
    dtype = str(scratch.dtype)
    image_base = image * (g.height * g.width * g.channels)
    top, left, _, right = g.padding
    with T.serial(0, staged_rows(g, rows)) as r:
        at = r * window.row_pitch
        if subsamples(g):
            source = image_base + (first_row + r) * (g.stride[0] * g.width * g.channels)
            with T.serial(0, g.out_width) as q:
                step = g.channels * g.stride[1]
                copy_run(scratch, at + q * g.channels, x, source + q * step, g.channels, dtype)
            return
        row = first_row * g.stride[0] + r - top
        source = image_base + row * (g.width * g.channels)
        inside = g.width * g.channels
        if not any(g.padding):
            copy_run(scratch, at, x, source, inside, dtype)
            return
        with T.If(T.And(row >= 0, row < g.height)):
            with T.Then():
                _fill(scratch, at, left * g.channels, fill, dtype)
                copy_run(scratch, at + left * g.channels, x, source, inside, dtype)
                _fill(scratch, at + (left + g.width) * g.channels, right * g.channels, fill, dtype)
            with T.Else():
                _fill(scratch, at, window.row_pitch, fill, dtype)


def copy_run(target: Expr, at: Expr, source: Expr, source_at: Expr, count: int, dtype: str) -> None:
    """Copy `count` elements as `dtype`; the last vector overlaps the one before: no scalar tail."""

    def move(offset: Expr, lanes: int) -> None:
        value = source[T.ramp(source_at + offset, 1, lanes)] if lanes > 1 else source[source_at + offset]
        value = T.cast(value, f"{dtype}x{lanes}" if lanes > 1 else dtype)
        T.buffer_store(target, value, [T.ramp(at + offset, 1, lanes) if lanes > 1 else at + offset])

    _cover(count, move)


def _fill(target: Expr, at: Expr, count: int, value: float, dtype: str) -> None:
    def store(offset: Expr, lanes: int) -> None:
        constant = T.float32(value) if dtype == "float32" else T.cast(T.int32(int(value)), dtype)
        if lanes > 1:
            T.buffer_store(target, T.broadcast(constant, lanes), [T.ramp(at + offset, 1, lanes)])
        else:
            T.buffer_store(target, constant, [at + offset])

    _cover(count, store)


def _cover(count: int, step: Any) -> None:
    if count == 0:
        return
    if count < COPY_LANES:
        with T.serial(0, count) as i:
            step(i, 1)
        return
    with T.serial(0, count // COPY_LANES) as i:
        step(i * COPY_LANES, COPY_LANES)
    if count % COPY_LANES:
        step(T.int32(count - COPY_LANES), COPY_LANES)
