"""Order: how numbers lie in memory, as moves of axes that are said once for numpy and for TE.

A weight that is stored as it is read is brought to its order when the library is compiled, by numpy; one that
is stored in another format is decoded when the library is loaded, and brought to the same order there, by a
PrimFunc. Both are made from the same moves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tersor.ir.operators import placeholder
from tersor.ir.untyped import s_tir, te, tirx

Array = npt.NDArray[Any]
Expr = Any
Shape = tuple[int, ...]
Read = Callable[..., Expr]  # the element at some indices
# Elements that are worth the work of several cores.
SHARED = 1 << 16
# TVM's kind of an operator that is fused with no other.
OPAQUE = 8


class Arrangement(Protocol):
    """How a weight is brought to the order in which its kernel reads it: with numpy, or by a PrimFunc."""

    def __call__(self, values: Array, /) -> Array:
        """Bring an array to this order."""
        ...

    def function(self, shape: Shape, dtype: str, /) -> Any:
        """Build the PrimFunc that does the same."""
        ...


class Move(Protocol):
    """One move of axes."""

    def array(self, values: Array, /) -> Array:
        """Carry it out."""
        ...

    def read(self, values: Read, shape: Shape, dtype: str, /) -> Read:
        """Read its result, given how to read what it moves, of some shape and dtype."""
        ...


@dataclass(frozen=True)
class Permute:
    """Bring the axes into another order, as `numpy.transpose` does."""

    axes: tuple[int, ...]

    def array(self, values: Array) -> Array:
        """Carry it out."""
        return values.transpose(self.axes)

    def read(self, values: Read, _shape: Shape, _dtype: str) -> Read:
        """Read its result."""
        places = [self.axes.index(axis) for axis in range(len(self.axes))]
        return lambda *i: values(*(i[place] for place in places))


@dataclass(frozen=True)
class Reshape:
    """Split and join axes, the last one fastest."""

    shape: Shape

    def array(self, values: Array) -> Array:
        """Carry it out."""
        return values.reshape(self.shape)

    def read(self, values: Read, shape: Shape, _dtype: str) -> Read:
        """Read its result; axes that both have in front stay apart from the rest."""
        same = 0
        while same < min(len(shape), len(self.shape)) and shape[same] == self.shape[same]:
            same += 1
        inner, outer = self.shape[same:], shape[same:]

        def value(*i: Expr) -> Expr:
            at = tirx.const(0, "int64")
            for index, extent in zip(i[same:], inner, strict=True):
                at = at * extent + index
            places = [
                at // prod(outer[axis + 1 :]) % extent if axis else at // prod(outer[1:])
                for axis, extent in enumerate(outer)
            ]
            return values(*i[:same], *places)

        return value


@dataclass(frozen=True)
class Insert:
    """Put `count` zeros before place `at` of an axis."""

    axis: int
    at: int
    count: int

    def array(self, values: Array) -> Array:
        """Carry it out."""
        widened = np.zeros(self._widened(values.shape), values.dtype)
        before, after = [slice(None)] * values.ndim, [slice(None)] * values.ndim
        before[self.axis], after[self.axis] = slice(self.at), slice(self.at, None)
        behind = [*after]
        behind[self.axis] = slice(self.at + self.count, None)
        widened[tuple(before)] = values[tuple(before)]
        widened[tuple(behind)] = values[tuple(after)]
        return widened

    def _widened(self, shape: Shape) -> Shape:
        return *shape[: self.axis], shape[self.axis] + self.count, *shape[self.axis + 1 :]

    def read(self, values: Read, shape: Shape, dtype: str) -> Read:
        """Read its result."""

        def value(*i: Expr) -> Expr:
            place = i[self.axis]
            exists, source = place < self.at, place
            if self.at < shape[self.axis]:
                behind = place >= self.at + self.count
                exists, source = tirx.any(exists, behind), place - tirx.Select(behind, self.count, 0)
            found = values(*i[: self.axis], source, *i[self.axis + 1 :])
            return tirx.if_then_else(exists, found, tirx.const(0, dtype))

        return value


@dataclass(frozen=True)
class Take:
    """Keep the places from `start` to before `stop` of an axis."""

    axis: int
    start: int
    stop: int

    def array(self, values: Array) -> Array:
        """Carry it out."""
        taken = [slice(None)] * values.ndim
        taken[self.axis] = slice(self.start, self.stop)
        return values[tuple(taken)]

    def read(self, values: Read, _shape: Shape, _dtype: str) -> Read:
        """Read its result."""
        return lambda *i: values(*i[: self.axis], i[self.axis] + self.start, *i[self.axis + 1 :])


@dataclass(frozen=True)
class Join:
    """Put two orders of the same numbers behind one another along an axis."""

    axis: int
    first: "Order"
    second: "Order"

    def array(self, values: Array) -> Array:
        """Carry it out."""
        return np.concatenate([self.first.array(values), self.second.array(values)], self.axis)

    def read(self, values: Read, shape: Shape, dtype: str) -> Read:
        """Read its result."""
        size = self.first.shape(shape)[self.axis]
        first, second = (each.read(values, shape, dtype) for each in (self.first, self.second))

        def value(*i: Expr) -> Expr:
            place = i[self.axis]
            behind = second(*i[: self.axis], place - size, *i[self.axis + 1 :])
            return tirx.if_then_else(place < size, first(*i), behind)

        return value


@dataclass(frozen=True)
class Order:
    """Moves that follow one another; without any, numbers stay as they are."""

    moves: tuple[Move, ...] = ()

    def __call__(self, values: Array) -> Array:
        """Bring an array to this order."""
        return np.ascontiguousarray(self.array(values))

    def array(self, values: Array) -> Array:
        """Carry the moves out."""
        for move in self.moves:
            values = move.array(values)
        return values

    def shape(self, shape: Shape) -> Shape:
        """Give the shape of the result."""
        return self.array(np.broadcast_to(np.int8(0), shape)).shape

    def read(self, values: Read, shape: Shape, dtype: str) -> Read:
        """Read the result, given how to read numbers of some shape and dtype."""
        for move in self.moves:
            values = move.read(values, shape, dtype)
            shape = Order((move,)).shape(shape)
        return values

    def function(self, shape: Shape, dtype: str) -> Any:
        """Build the PrimFunc ``(values) -> (values in this order)``."""
        values = placeholder(shape, dtype, "values")
        result = [tirx.IntImm("int64", extent) for extent in self.shape(shape)]
        ordered = te.compute(result, self.read(values, shape, dtype), "ordered")
        return scalar_function([values, ordered])

    def after(self, *moves: Move) -> "Order":
        """Give the order that carries out other moves first."""
        return Order((*moves, *self.moves))


def scalar_function(tensors: list[Expr]) -> Any:
    """Build the PrimFunc of some tensors, without vectors: it runs once, and its indices would be scalars.

    Each would be written out for every lane. Nothing is fused into it, either.
    """
    schedule = s_tir.Schedule(te.create_prim_func(tensors))
    block = schedule.get_child_blocks(schedule.get_sblock("root"))[-1]
    loop, *_ = schedule.get_loops(block)
    if int(schedule.get(loop).extent) > SHARED:
        outer, _ = schedule.split(loop, [None, SHARED // 4])
        schedule.parallel(outer)
    function = schedule.mod["main"].without_attr("global_symbol")
    return function.with_attr({"tirx.is_scheduled": True, "op_pattern": OPAQUE})


def padded(axis: int, extent: int, to: int) -> tuple[Move, ...]:
    """Give the move that fills an axis up with zeros, or none if it is as long as that."""
    return (Insert(axis, extent, to - extent),) if to > extent else ()
