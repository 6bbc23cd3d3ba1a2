"""Tiles: how many tiles of a dimension some of its loops visit, and how large they are, ragged ones included.

Tiles of a dimension begin at multiples of what the loops inside of them cover, so all are full but the last
one. A loop that is counted makes tiles of its own; of one that is not, the first iteration stands for all,
which is there whenever any is.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tersor.targets.accelerator.nest import Nest, Sizes

Array = NDArray[np.float64]
Flag = bool | NDArray[np.bool_]
Flags = Sequence[Flag]  # for each loop outside of a tile
Split = tuple[Array | float, Array | float]  # full tiles, and the iterations of the last one


class Visits:
    """`full` visits to tiles of `extent`, and one to a tile of `last` iterations, which may be as large.

    `count` are all visits, `iterations` the extents of all visited tiles, added up.
    """

    __slots__ = ("_count", "_iterations", "extent", "full", "last")

    def __init__(self, full: Array | float, extent: Array | float, last: Array | float) -> None:
        self.full, self.extent, self.last = full, extent, last
        self._count: Array | float | None = None
        self._iterations: Array | float | None = None

    @property
    def count(self) -> Array | float:
        """All visits; found when asked for, as most users want one of the two sums."""
        if self._count is None:
            self._count = self.full + 1
        return self._count

    @property
    def iterations(self) -> Array | float:
        """The extents of all visited tiles, added up."""
        if self._iterations is None:
            self._iterations = self.last if is_nothing(self.full) else self.full * self.extent + self.last
        return self._iterations


class Tiles:
    """The tiles of a nest's dimensions."""

    def __init__(self, nest: Nest, sizes: Sizes) -> None:
        self.nest = nest
        self.sizes = sizes
        self._inner: dict[int, Array | float] = {}
        self._walked: dict[tuple[object, ...], tuple[Split, Flag]] = {}  # flags are kept for their ids
        self._visited: dict[tuple[object, ...], Visits] = {}
        self._largest: dict[tuple[str, int], Array | float] = {}
        for places in nest.loops_of.values():
            inner: Array | float = 1.0
            for place in reversed(places):
                self._inner[place] = inner
                inner = times(inner, sizes[place])

    def inside(self, place: int) -> Array | float:
        """Iterations that one iteration of the loop at `place` covers."""
        return self._inner[place]

    def extent(self, dim: str, position: int) -> Array | float:
        """Iterations over `dim` that a full tile covers."""
        places = self.nest.loops_of.get(dim, ())
        before = self.nest.outside(dim, position)
        if before:
            return self._inner[before[-1]]
        return self._inner[places[0]] * self.sizes[places[0]] if places else 1.0

    def largest(self, dim: str, position: int) -> Array | float:
        """Iterations over `dim` that the largest tile covers."""
        key = dim, len(self.nest.outside(dim, position))
        if key not in self._largest:
            self._largest[key] = np.minimum(self.extent(dim, position), self.nest.layer.size(dim))
        return self._largest[key]

    def visits(self, dim: str, position: int, flags: Flags, merged: Flags | None = None) -> Visits:
        """Walk over the loops over `dim` outside of a tile; `flags` says which are counted.

        Loops that are `merged` are taken for a part of the tile; none may lie outside of one that is not.
        """
        if dim not in self.nest.dims:
            return _ONCE
        if merged is not None:
            return self._merged_visits(dim, position, flags, merged)
        before = self.nest.outside(dim, position)
        key = (dim, *[id(flags[place]) for place in before])
        found = self._visited.get(key)
        if found is None:
            full, last = self._walk(dim, before, flags)
            found = self._visited[key] = Visits(full, self.extent(dim, position), last)
        return found

    def _walk(self, dim: str, before: Sequence[int], flags: Flags) -> Split:
        """Full tiles and the iterations of the last one; what shorter walks have found is taken from them."""
        split: Split = 0.0, float(self.nest.layer.size(dim))
        key: tuple[object, ...] = (dim,)
        for place in before:
            flag = flags[place]
            key = (*key, id(flag))
            if key not in self._walked:
                self._walked[key] = _split(*split, self.sizes[place], self._inner[place], flag), flag
            split = self._walked[key][0]
        return split

    def _merged_visits(self, dim: str, position: int, flags: Flags, merged: Flags) -> Visits:
        extent = self.extent(dim, position)
        full: Array | float = 0.0
        last: Array | float = float(self.nest.layer.size(dim))
        for place in self.nest.outside(dim, position):
            merge = merged[place]
            if merge is True:
                extent = extent * self.sizes[place]
                continue
            new_full, new_last = _split(full, last, self.sizes[place], self._inner[place], flags[place])
            if merge is False:
                full, last = new_full, new_last
            else:
                full, last = np.where(merge, full, new_full), np.where(merge, last, new_last)
                extent = extent * np.where(merge, self.sizes[place], 1.0)
        return Visits(full, extent, last)

    def within(self, dim: str, position: int, extent: Array | float, flags: Flags) -> Array | float:
        """Count the visits that the loops inside of a tile of `extent` iterations make; `flags` as above."""
        full: Array | float = 0.0
        for place in self.nest.loops_of.get(dim, ()):
            if place >= position:
                full, extent = _split(full, extent, self.sizes[place], self._inner[place], flags[place])
        return full + 1

    def merging(self, dims: str, position: int, may: Callable[[int], bool]) -> list[Flag]:
        """Say of each loop outside of a tile whether it is a part of what neighbours take together.

        Those are loops over `dims` that `may` be, unless the tiles of one lie apart: a loop over the same
        dimension between it and the tile, which may not be merged, makes more than one iteration.
        """
        merged: list[Flag] = [False] * position
        for dim in dims:
            open_: Flag = True
            for place in reversed(self.nest.outside(dim, position)):
                if open_ is not False and not may(place):
                    single = np.logical_and(open_, self.sizes[place] == 1)
                    open_ = single if single.any() else False
                merged[place] = open_
        return merged


_ONCE = Visits(0.0, 1.0, 1.0)


def is_nothing(value: Array | float) -> bool:
    """Whether it is 0 for all mappings because nothing was counted, so that no array need be worked on."""
    return isinstance(value, float) and value == 0.0


def times(product: Array | float, factor: Array | float) -> Array | float:
    """The product of both, without a pass over the array that one of 1 would take."""
    if isinstance(product, float) and product == 1.0:
        return factor
    if isinstance(factor, float) and factor == 1.0:
        return product
    return product * factor


def _split(full: Array | float, last: Array | float, size: Array, tile: Array | float, flag: Flag) -> Split:
    """Divide tiles by a loop of `size` iterations of `tile` each: all of them, or the first of each."""
    if flag is False:
        return full, np.minimum(last, tile)
    more = np.ceil(last / tile) - 1
    if flag is True:
        return more if is_nothing(full) else full * size + more, last - more * tile
    more *= flag
    return full * np.where(flag, size, 1.0) + more, np.minimum(last - more * tile, tile)
