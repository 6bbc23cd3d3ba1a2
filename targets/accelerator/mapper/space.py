"""Space: all mappings of a layer on a machine that the mapper chooses from.

Sizes are columns [places, mappings], each place a dimension at a memory or an axis.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf, prod

import numpy as np

from tersor.hardware import Hardware
from tersor.layer import DIMS, Dim, Layer
from tersor.mapping import Keep, Mapping
from tersor.targets.accelerator.mapper.choices import Choices
from tersor.targets.accelerator.mapper.frame import Frames, Level
from tersor.targets.accelerator.mapper.front import Frame
from tersor.targets.accelerator.mapper.ways import count_ways, least_wasteful, ways
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.residency import Operands

MOST_WAYS = 1024  # ways to split a dimension, where there are too many mappings to try them all


@dataclass(frozen=True)
class Space:
    """The mappings of `layer` on `hardware`; those that are not `ragged` have full tiles only.

    Operands that are `on_chip` lie there from the beginning, or at the end.
    """

    layer: Layer
    hardware: Hardware
    ragged: bool = True
    on_chip: Operands = ()

    @property
    def waste(self) -> float:
        """Iterations that a dimension may take, over those it has."""
        return inf if self.ragged else 1.0

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The dimensions that have loops."""
        return tuple(dim for dim in DIMS if self.layer.size(dim) > 1)

    @cached_property
    def _frames(self) -> Frames:
        return Frames(self.hardware, self.dims, self.on_chip)

    @cached_property
    def levels(self) -> list[list[Level]]:
        """What a frame may say of each memory."""
        return [self._frames.levels(level) for level in range(len(self.hardware.memories))]

    @cached_property
    def even(self) -> list[list[Level]]:
        """The same for frames that keep all they may, around all loops."""
        return [self._frames.even(level) for level in range(len(self.hardware.memories))]

    def passing_by(self, level: int, here: Level) -> list[Level]:
        """What keeps one operand less than `here` in one memory, and is the same else."""
        return self._frames.passing_by(level, here, self.levels[level])

    @cached_property
    def places(self) -> tuple[tuple[Dim, str], ...]:
        """Where a loop may be, the outermost first; axes come in the order of the machine."""
        found: list[tuple[Dim, str]] = []
        for memory in self.hardware.memories:
            found.extend((dim, memory.name) for dim in self.dims)
            for axis in self.hardware.axes:
                if axis.inside == memory.name:
                    found.extend((dim, axis.name) for dim in self.dims if dim in axis.unrolls)
        return tuple(found)

    @cached_property
    def _row(self) -> dict[tuple[Dim, str], int]:
        return {place: row for row, place in enumerate(self.places)}

    @cached_property
    def _most(self) -> dict[Dim, tuple[int, ...]]:
        """How many iterations of a dimension each of its places may have, but for the outermost."""
        units = {axis.name: axis.size for axis in self.hardware.axes}
        return {
            dim: tuple(units.get(at, self.layer.size(dim)) for each, at in self.places if each == dim)[1:]
            for dim in self.dims
        }

    @cached_property
    def choices(self) -> Choices:
        """All choices of sizes. Raises ValueError if there are too many to number them."""
        found: dict[Dim, Sizes] = {
            dim: ways(self.layer.size(dim), most, self.waste) for dim, most in self._most.items()
        }
        return Choices(self.places, found, self.hardware.axes)

    @cached_property
    def promising(self) -> Choices:
        """Those of at most `MOST_WAYS` ways to split each dimension, or of as many as can be numbered."""
        random = np.random.default_rng(0)
        count = min(MOST_WAYS, int(2 ** (62 / max(len(self.dims), 1))))
        found: dict[Dim, Sizes] = {
            dim: least_wasteful(self.layer.size(dim), most, count, random, self.waste)
            for dim, most in self._most.items()
        }
        return Choices(self.places, found, self.hardware.axes)

    @property
    def size_count(self) -> int:
        """How many choices of all sizes there are, those that need too many units among them."""
        return prod(count_ways(self.layer.size(dim), most, self.ragged) for dim, most in self._most.items())

    def nest(self, frame: tuple[Level, ...]) -> tuple[Nest, list[int]]:
        """The nest of a frame, and the place of each of its loops."""
        loops: list[tuple[Dim, str]] = []
        keep: list[Keep] = []
        for memory, level in zip(self.hardware.memories, frame, strict=True):
            loops.extend((dim, memory.name) for dim in level.loops)
            keep += level.keep(memory.name)
            names = [axis.name for axis in self.hardware.axes if axis.inside == memory.name]
            loops += [place for place in self.places if place[1] in names]
        nest = Nest(self.layer, self.hardware, tuple(loops), tuple(keep))
        return nest, [self._row[place] for place in loops]

    def placed(self, mapping: Mapping) -> tuple[Frame, Sizes] | None:
        """The frame and the sizes [places, 1] of a mapping that this space has; None if it has not."""
        sizes = np.ones((len(self.places), 1))
        for loop in mapping.loops:
            row = self._row.get((loop.dim, loop.at))
            if row is None or sizes[row, 0] != 1:
                return None
            sizes[row] = loop.size
        frame: list[Level] = []
        for memory, levels in zip(self.hardware.memories, self.levels, strict=True):
            loops = tuple(loop.dim for loop in mapping.loops if loop.at == memory.name and loop.size > 1)
            keeps = {(keep.operand, keep.inside) for keep in mapping.keep if keep.at == memory.name}
            level = next(
                (each for each in levels if each.without_loops_of_one(loops) == (loops, keeps)), None
            )
            if level is None:
                return None
            frame.append(level)
        return tuple(frame), sizes
