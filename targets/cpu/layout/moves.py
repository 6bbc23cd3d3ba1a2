"""Moves: runs of elements copied, widened or filled, a vector at a time."""

from typing import Any

from tvm.script.ir_builder import tirx as T

Expr = Any

# Elements moved by one vector copy; the buffers behind are byte-sized, so this is one or two registers.
COPY_LANES = 16


def copy_run(target: Expr, at: Expr, source: Expr, source_at: Expr, count: int, dtype: str) -> None:
    """Copy `count` elements as `dtype`; the last vector overlaps the one before: no scalar tail."""

    def move(offset: Expr, lanes: int) -> None:
        value = source[T.ramp(source_at + offset, 1, lanes)] if lanes > 1 else source[source_at + offset]
        value = T.cast(value, f"{dtype}x{lanes}" if lanes > 1 else dtype)
        T.buffer_store(target, value, [T.ramp(at + offset, 1, lanes) if lanes > 1 else at + offset])

    _cover(count, move)


def fill_run(target: Expr, at: Expr, count: int, value: float, dtype: str) -> None:
    """Store `count` elements of one value."""

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
