"""Recurrent kernels: the loop of `tersor.ir.recurrent` with an int8 product on the CPU's dot products.

The state is kept in the type that the dot product wants; its sums are the same integers as the definition's.
What has no kernel here (float weights, odd numbers of units) runs the definition, which is vectorised, too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from tersor.ir.operators import placeholder
from tersor.ir.recurrent import Cell, Loop, Source, recurrent_function
from tersor.ir.untyped import te, tirx
from tersor.targets.cpu.host.isa import Isa, dot_broadcast
from tersor.targets.cpu.host.threads import worth_sharing
from tersor.targets.cpu.layout.order import Order, Permute, Reshape, scalar_function

Array = npt.NDArray[Any]
Expr = Any
# Vectors of columns that one pass over the state accumulates, each in a register.
VECTORS = (8, 6, 4, 3, 2, 1)
# What makes an int8 code a uint8 one.
OFFSET = 128


def has_kernel(isa: Isa, cell: Cell) -> bool:
    """Whether the CPU has a kernel of its own for a cell."""
    return isa.group > 1 and cell.state == "int8" and cell.hidden % isa.lanes == 0


def kernel_name(isa: Isa, cell: Cell) -> str:
    """Name the kernel for the report."""
    weight = "fp32" if cell.weight == "float32" else "int8" if cell.state == "int8" else "w8a32"
    return f"{cell.name} {weight} {isa.name if has_kernel(isa, cell) else 'vectorised'}"


@dataclass(frozen=True)
class RecurrentOrder:
    """The order in which the kernel reads codes int8 [H, K], flat.

    Order: block of vectors, step over the state, vector, lane, unit within the step. With codes of the state
    that are uint8 the sums that their offset adds follow, as int32 in the order of the columns.
    """

    isa: Isa

    def __call__(self, weight: Array) -> Array:
        """Bring codes to this order."""
        packed = self._codes(weight.shape)(weight)
        if not _is_offset(self.isa):
            return packed
        sums = (OFFSET * weight.astype(np.int64).sum(axis=0)).astype("<i4")
        return np.concatenate([packed, sums.view(np.int8)])

    def function(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Build the PrimFunc ``(codes) -> (codes in this order)``."""
        order = self._codes(shape)
        if not _is_offset(self.isa):
            return order.function(shape, dtype)
        codes = placeholder(shape, dtype, "codes")
        unit = te.reduce_axis((0, codes.shape[0]), "unit")
        column = codes.shape[1:]
        sums = te.compute(column, lambda k: te.sum(codes(unit, k).astype("int32"), axis=[unit]), "sums")
        read, count = order.read(codes, shape, dtype), int(np.prod(shape))

        def byte(i: Expr) -> Expr:
            place = i - count
            whole = sums(place // 4) * tirx.const(OFFSET, "int32")
            part = (whole >> (place % 4 * 8).astype("int32")).astype("int8")
            return tirx.if_then_else(i < count, read(i), part)

        size = tirx.IntImm("int64", count + 4 * shape[1])
        packed = te.compute((size,), byte, "packed")
        return scalar_function([codes, packed])

    def _codes(self, shape: tuple[int, ...]) -> Order:
        hidden, columns = shape
        vectors, group = _vectors(self.isa, hidden), self.isa.group
        blocks = columns // (vectors * self.isa.lanes)
        return Order(
            (
                Reshape((hidden // group, group, blocks, vectors, self.isa.lanes)),
                Permute((2, 0, 3, 4, 1)),
                Reshape((hidden * columns,)),
            )
        )


def recurrent_kernel(isa: Isa, cell: Cell, steps: int, batch: int) -> Any:
    """Build the PrimFunc of a cell; its weight is packed, its other arguments are those of the definition."""
    size = cell.hidden * cell.hidden * cell.gates
    if _is_offset(isa):
        size += 4 * cell.hidden * cell.gates
        source = Source("uint8", OFFSET)
    else:
        source = Source("int16")
    macs = steps * batch * cell.hidden * cell.hidden * cell.gates
    parallel = worth_sharing(isa, macs, integer=True)
    return recurrent_function(cell, steps, batch, (size,), _Product(isa, cell.hidden, size), source, parallel)


class _Product:
    """Emits the int8 product of a state with some columns of the weight."""

    def __init__(self, isa: Isa, hidden: int, size: int) -> None:
        self.isa = isa
        self.hidden = hidden
        self.width = _vectors(isa, hidden) * isa.lanes
        self.size = size

    def __call__(self, loop: Loop, source: Expr, first: int, count: int) -> None:
        isa = self.isa
        with T.serial(0, count // self.width) as i:
            start = T.bind(i * self.width + first)
            sums = T.alloc_buffer((self.width,), "int32", scope="local")
            registers = range(0, self.width, isa.lanes)
            for v in registers:
                T.buffer_store(sums, self._start(loop, start + v), [T.ramp(v, 1, isa.lanes)])
            with T.serial(0, self.hidden // isa.group) as step:
                at = T.bind(start * self.hidden + step * (self.width * isa.group))
                for v in registers:
                    own = T.ramp(v, 1, isa.lanes)
                    value = dot_broadcast(
                        isa, sums[own], source, step * isa.group, loop.weight, at + v * isa.group
                    )
                    T.buffer_store(sums, value, [own])
            for v in registers:
                columns = T.ramp(start + v, 1, isa.lanes)
                real = T.cast(sums[T.ramp(v, 1, isa.lanes)], f"float32x{isa.lanes}")
                T.buffer_store(loop.sums, real, [columns])

    def _start(self, loop: Loop, column: Expr) -> Expr:
        lanes = self.isa.lanes
        if not _is_offset(self.isa):
            return T.broadcast(T.int32(0), lanes)
        behind = self.size - 4 * loop.hidden * loop.cell.gates
        stored = loop.weight[T.ramp(behind + column * 4, 1, lanes * 4)]
        return T.broadcast(T.int32(0), lanes) - T.reinterpret(f"int32x{lanes}", stored)


def _is_offset(isa: Isa) -> bool:
    return isa.staged == "uint8"


def _vectors(isa: Isa, hidden: int) -> int:
    count = hidden // isa.lanes
    return next(vectors for vectors in VECTORS if count % vectors == 0)
