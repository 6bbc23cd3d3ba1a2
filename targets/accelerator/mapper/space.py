"""Space: all mappings of a layer on a machine that the mapper chooses from.

Sizes are columns [places, mappings], each place a dimension at a memory or an axis. A dimension of n
iterations is split from the innermost place outwards: into tiles of f iterations, where no smaller f makes as
few of them, then the number of tiles in the same way, and what is left runs at the outermost memory. So sizes
need not divide n, and there are about 2 sqrt(n) of them in place of n.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from tersor.hardware import Hardware
from tersor.layer import DIMS, Dim, Layer
from tersor.mapping import Keep
from tersor.targets.accelerator.mapper.choices import Choices
from tersor.targets.accelerator.mapper.frame import Frames, Level
from tersor.targets.accelerator.nest import Nest, Sizes


@lru_cache(maxsize=4096)
def splits(size: int) -> tuple[int, ...]:
    """The sizes of tiles of `size` iterations, each the smallest for its number of tiles.

    >>> splits(5)
    (1, 2, 3, 5)
    """
    return tuple(sorted({-(-size // tiles) for tiles in range(1, size + 1)}))


@lru_cache(maxsize=4096)
def divisors(size: int) -> tuple[int, ...]:
    """The sizes of tiles of `size` iterations that leave no rest.

    >>> divisors(6)
    (1, 2, 3, 6)
    """
    return tuple(tile for tile in range(1, size + 1) if size % tile == 0)


@dataclass(frozen=True)
class Space:
    """The mappings of `layer` on `hardware`; those that are not `ragged` have full tiles only."""

    layer: Layer
    hardware: Hardware
    ragged: bool = True

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The dimensions that have loops."""
        return tuple(dim for dim in DIMS if self.layer.size(dim) > 1)

    @cached_property
    def levels(self) -> list[list[Level]]:
        """What a frame may say of each memory."""
        frames = Frames(self.hardware, self.dims)
        return [frames.levels(level) for level in range(len(self.hardware.memories))]

    @cached_property
    def even(self) -> list[list[Level]]:
        """The same for frames that keep all they may, around all loops."""
        frames = Frames(self.hardware, self.dims)
        return [frames.even(level) for level in range(len(self.hardware.memories))]

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
    def chains(self) -> dict[Dim, Sizes]:
        """All ways to split each dimension: [its places, ways]."""
        return {dim: self._chains(dim) for dim in self.dims}

    def _chains(self, dim: Dim) -> Sizes:
        most = {axis.name: axis.size for axis in self.hardware.axes}
        found: list[tuple[int, ...]] = [(self.layer.size(dim),)]  # what is left, and the sizes so far
        inner = [at for each, at in self.places if each == dim][1:]
        for at in reversed(inner):
            limit = most.get(at, self.layer.size(dim))
            found = [
                (-(-left // tile), tile, *tiles)
                for left, *tiles in found
                for tile in (splits(left) if self.ragged else divisors(left))
                if tile <= limit
            ]
        return np.array(found, np.float64).T

    @cached_property
    def choices(self) -> Choices:
        """All choices of sizes. Raises ValueError if there are too many to number them."""
        return Choices(self.places, self.chains, self.hardware.axes)

    @property
    def size_count(self) -> int:
        """How many choices of all sizes there are, those that need too many units among them."""
        return prod(ways.shape[1] for ways in self.chains.values())

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
