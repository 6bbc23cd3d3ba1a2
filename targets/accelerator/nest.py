"""Nest: the loops and tiles of many mappings at once, which differ in the loops' sizes alone.

Sizes are float64 arrays [loops, mappings]: whole numbers that stay exact up to 2^53, with fast division.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tersor.hardware import Axis, Hardware
from tersor.layer import DIMS, INDEXED_BY, Dim, Layer, Operand
from tersor.loop_tree import depth_of, why_misplaced
from tersor.mapping import Keep, Loop, Mapping

Sizes = NDArray[np.float64]
REDUCTION = frozenset("CRS")


@dataclass(frozen=True)
class Nest:
    """Loops of `layer` on `hardware` by dimension and place, the outermost first, and what is kept where.

    Raises ValueError with the reason of `why_misplaced`.
    """

    layer: Layer
    hardware: Hardware
    loops: tuple[tuple[Dim, str], ...]
    keep: tuple[Keep, ...]

    def __post_init__(self) -> None:
        ones = Mapping(tuple(Loop(dim, 1, at) for dim, at in self.loops), self.keep)
        if reason := why_misplaced(ones, self.hardware):
            raise ValueError(reason)

    @classmethod
    def of(cls, mapping: Mapping, layer: Layer, hardware: Hardware) -> tuple[Self, Sizes]:
        """The nest of one mapping, and its sizes [loops, 1]."""
        nest = cls(layer, hardware, tuple((loop.dim, loop.at) for loop in mapping.loops), mapping.keep)
        return nest, np.array([[loop.size] for loop in mapping.loops], np.float64).reshape(-1, 1)

    def mapping(self, sizes: NDArray[np.floating]) -> Mapping:
        """The mapping with `sizes` [loops]; loops of one iteration are left out of it."""
        loops: list[Loop] = []
        dropped: dict[str, list[int]] = {}
        seen: dict[str, int] = {}
        for (dim, at), size in zip(self.loops, sizes, strict=True):
            place = seen[at] = seen.get(at, 0) + 1
            if size > 1:
                loops.append(Loop(dim, int(size), at))
            else:
                dropped.setdefault(at, []).append(place)
        keep = tuple(
            Keep(each.operand, each.at, each.inside - sum(p <= each.inside for p in dropped.get(each.at, ())))
            for each in self.keep
        )
        return Mapping(tuple(loops), keep)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Of each loop: twice the level of its memory, and one more if it is on an axis."""
        depths = depth_of(self.hardware)
        return tuple(depths[at] for _, at in self.loops)

    @cached_property
    def axes(self) -> tuple[Axis | None, ...]:
        """Of each loop: the axis that it is spread over."""
        axes = {axis.name: axis for axis in self.hardware.axes}
        return tuple(axes.get(at) for _, at in self.loops)

    @cached_property
    def loops_of(self) -> dict[str, tuple[int, ...]]:
        """The places in `loops` of each dimension's."""
        found: dict[str, list[int]] = {}
        for place, (dim, _) in enumerate(self.loops):
            found.setdefault(dim, []).append(place)
        return {dim: tuple(places) for dim, places in found.items()}

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The dimensions of more than one iteration."""
        return tuple(dim for dim in DIMS if self.layer.size(dim) > 1)

    @cached_property
    def spread(self) -> tuple[tuple[int, Axis], ...]:
        """The loops on axes: their places in `loops`, and the axes."""
        return tuple((place, axis) for place, axis in enumerate(self.axes) if axis is not None)

    def outside(self, dim: str, position: int) -> tuple[int, ...]:
        """The loops over `dim` outside of a tile with `position` loops around it."""
        found = self._outside.get((dim, position))
        if found is None:
            found = tuple(place for place in self.loops_of.get(dim, ()) if place < position)
            self._outside[dim, position] = found
        return found

    @cached_property
    def _outside(self) -> dict[tuple[str, int], tuple[int, ...]]:
        return {}

    def levels(self, operand: Operand) -> list[int]:
        """The memories that keep a tile of `operand`, as levels from the outermost, its home."""
        return self._levels[operand]

    def home(self, operand: Operand) -> int:
        """The memory that has all of `operand`."""
        return self._levels[operand][0]

    @cached_property
    def _levels(self) -> dict[Operand, list[int]]:
        return {operand: self._find_levels(operand) for operand in INDEXED_BY}

    def _find_levels(self, operand: Operand) -> list[int]:
        kept = {each.at for each in self.keep if each.operand == operand}
        return [level for level, memory in enumerate(self.hardware.memories) if memory.name in kept]

    def position(self, operand: Operand, level: int | None) -> int:
        """How many loops are outside of the tile at `level`; of all loops for a unit (None)."""
        return len(self.loops) if level is None else self._positions[operand, level]

    @cached_property
    def _positions(self) -> dict[tuple[Operand, int], int]:
        found: dict[tuple[Operand, int], int] = {}
        levels = {memory.name: level for level, memory in enumerate(self.hardware.memories)}
        for each in self.keep:
            level = levels[each.at]
            around = sum(depth < 2 * level for depth in self.depths) + each.inside
            found[each.operand, level] = 0 if level == self.home(each.operand) else around
        return found

    def indexes(self, place: int, operand: Operand) -> bool:
        """Whether the loop at `place` walks over `operand`."""
        return self.loops[place][0] in INDEXED_BY[operand]


def why_not_covered(nest: Nest, sizes: Sizes) -> NDArray[np.bool_]:
    """Mark the mappings whose loops do not make all iterations of the layer."""
    short = np.zeros(sizes.shape[1], np.bool_)
    for dim in "NGKCPQRS":
        made = np.ones(sizes.shape[1])
        for place in nest.loops_of.get(dim, ()):
            made = made * sizes[place]
        short |= made < nest.layer.size(dim)
    return short
