"""Volumes: elements of all tiles that some of a nest's loops make, as the rules of `counts` have it.

Of each loop outside of a tile a flag says whether its iterations count, or the first of them for all: that
depends on what is asked, how often a tile is fetched, how many units take a read of their own.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tersor.hardware.axis import Axis
from tersor.layer import INDEXED_BY, Operand
from tersor.targets.accelerator.nest import REDUCTION, Nest, Sizes
from tersor.targets.accelerator.tiles import Array, Flag, Tiles, times
from tersor.targets.accelerator.windows import Window

# Of a loop on an axis: whether each of its units counts, or the first for all.
Spread = Callable[[int, Axis], bool]


def every_unit(place: int, axis: Axis) -> bool:
    """Each unit counts."""
    return True


def first_unit(place: int, axis: Axis) -> bool:
    """The first unit counts, for all."""
    return False


class Volumes:
    """The volumes of the mappings `sizes` [loops, mappings] of a nest; what was asked for is kept."""

    def __init__(self, nest: Nest, sizes: Sizes) -> None:
        self.nest = nest
        self.sizes = sizes
        self.tiles = Tiles(nest, sizes)
        self._fetched: dict[tuple[Operand, int | None], list[Flag]] = {}
        self._volumes: dict[tuple[object, ...], tuple[Array, list[Flag]]] = {}  # flags are kept for their ids
        layer = nest.layer
        self.windows = {
            "PR": Window(layer.stride[0], layer.dilation[0]),
            "QS": Window(layer.stride[1], layer.dilation[1]),
        }

    def visits(self, in_time: list[Flag], position: int) -> Array:
        """Tiles with `position` loops outside that the first unit takes one after the other."""
        flags = self.flags(in_time, first_unit)
        total: Array | float = 1.0
        for dim in self.nest.dims:
            total = times(total, self.tiles.visits(dim, position, flags).count)
        return self._spread_out(total)

    def in_time(self, operand: Operand, level: int | None) -> list[Flag]:
        """Say of each loop outside of a tile whether the tile is fetched again by its iterations.

        A unit (None) has no memory: everything is fetched again. What is said of loops on axes is nothing.
        """
        if (operand, level) not in self._fetched:
            self._fetched[operand, level] = self._find_in_time(operand, level)
        return self._fetched[operand, level]

    def _find_in_time(self, operand: Operand, level: int | None) -> list[Flag]:
        position = self.nest.position(operand, level)
        flags: list[Flag] = [True] * position
        if level is None:
            return flags
        later: Flag = False  # whether an operand's loop in time is inside of this one
        for place in reversed(range(position)):
            if self.nest.axes[place] is None:
                flags[place] = later
                if self.nest.indexes(place, operand):
                    flags[place] = True
                    later = later | (self.sizes[place] > 1)
        return flags

    def flags(self, in_time: list[Flag], spread: Spread) -> list[Flag]:
        """Say of all loops outside of a tile whether they count."""
        flags = in_time.copy()
        for place, axis in self.nest.spread:
            if place >= len(flags):
                break
            flags[place] = spread(place, axis)
        return flags

    def served(self, operand: Operand, parent: int, all_of: bool) -> Spread:
        """Which units take a read of `parent` of their own."""

        def spread(place: int, axis: Axis) -> bool:
            if self.nest.depths[place] < 2 * parent:
                return all_of
            return self.nest.indexes(place, operand) or operand not in axis.multicast

        return spread

    def added(self, parent: int, all_of: bool) -> Spread:
        """Which units' sums arrive at `parent` each for itself."""

        def spread(place: int, axis: Axis) -> bool:
            if self.nest.depths[place] < 2 * parent:
                return all_of
            return self.nest.loops[place][0] not in REDUCTION or not axis.reduces

        return spread

    def grouped(self, parent: int) -> Spread:
        """One for all units below `parent` that sum up the same outputs."""
        return lambda place, axis: (
            self.nest.depths[place] < 2 * parent or self.nest.loops[place][0] not in REDUCTION
        )

    def volume(
        self,
        operand: Operand,
        level: int | None,
        flags: list[Flag],
        shared_below: int | None = None,
        whole: bool = False,
    ) -> Array:
        """Elements of all tiles of `operand` at `level` that `flags` counts.

        With `shared_below`, units below that memory take what they share in halos together if their axis can.
        Tiles that slide are `whole` with all that they have, else with what the ones before them had not.
        """
        key = (operand, level, shared_below, whole, *map(id, flags))
        if key not in self._volumes:
            self._volumes[key] = self._find_volume(operand, level, flags, shared_below, whole), flags
        return self._volumes[key][0]

    def _find_volume(
        self, operand: Operand, level: int | None, flags: list[Flag], shared_below: int | None, whole: bool
    ) -> Array:
        position = self.nest.position(operand, level)
        window = "PQRS" if operand == "input" else ""
        total: Array | float = 1.0
        for dim in self.nest.dims:
            if dim not in window:
                visits = self.tiles.visits(dim, position, flags)
                total = times(total, visits.iterations if dim in INDEXED_BY[operand] else visits.count)
        if operand == "input":
            for dims in ("PR", "QS"):
                total = times(total, self._touched(dims, position, level, flags, shared_below, whole))
        return self._spread_out(total)

    def _touched(
        self,
        dims: str,
        position: int,
        level: int | None,
        flags: list[Flag],
        shared_below: int | None,
        whole: bool,
    ) -> Array | float:
        """Rows (PR) or columns (QS) of all tiles of the input."""
        layer, window = self.nest.layer, self.windows[dims]
        if layer.size(dims[0]) == layer.size(dims[1]) == 1:
            return 1.0
        slides = self._slides(dims[0], position, level)
        merged = self._merged(dims, position, shared_below, slides)
        taps = self.tiles.visits(dims[1], position, flags, merged)
        total = window.touched(self.tiles.visits(dims[0], position, flags, merged), taps)
        for place, active in slides if not whole else ():
            runs = self.tiles.visits(dims[0], place, flags)
            tile = np.where(active, self.tiles.inside(place), 1.0)
            total = np.where(active, window.slid(runs, tile, self.sizes[place], taps), total)
        return total

    def _slides(self, dim: str, position: int, level: int | None) -> list[tuple[int, NDArray[np.bool_]]]:
        """The loops over `dim` along which tiles of the input keep what they share, and in which mappings."""
        found: list[tuple[int, NDArray[np.bool_]]] = []
        if level is None or not self.nest.hardware.memories[level].halo_reuse:
            return found
        alone = np.ones(self.sizes.shape[1], np.bool_)
        for place in reversed(range(position)):
            in_time = self.nest.axes[place] is None
            if in_time and self.nest.loops[place][0] == dim:
                found.append((place, alone & (self.sizes[place] > 1)))
            if self.nest.loops[place][0] == dim or (in_time and self.nest.indexes(place, "input")):
                alone = alone & (self.sizes[place] == 1)
        return [(place, active) for place, active in found if active.any()]

    def _merged(
        self, dims: str, position: int, shared_below: int | None, slides: list[tuple[int, NDArray[np.bool_]]]
    ) -> list[Flag] | None:
        if shared_below is None or not any(axis.shares_halo for axis in self.nest.hardware.axes):
            return None

        def may(place: int) -> bool:
            axis = self.nest.axes[place]
            return axis is not None and axis.shares_halo and self.nest.depths[place] > 2 * shared_below

        merged = self.tiles.merging(dims, position, may)
        for _, slides_here in slides:
            apart = np.logical_not(slides_here)
            merged = [flag if flag is False else np.logical_and(flag, apart) for flag in merged]
        return merged

    def _spread_out(self, value: Array | float) -> Array:
        return value if isinstance(value, np.ndarray) else np.full(self.sizes.shape[1], value)


def largest_tile(nest: Nest, tiles: Tiles, operand: Operand, level: int) -> Array:
    """Elements of the largest tile of `operand` at `level`."""
    position = nest.position(operand, level)
    window = set("PQRS") if operand == "input" else set()
    total: Array | float = 1.0
    for dim in nest.dims:
        if dim in INDEXED_BY[operand] and dim not in window:
            total = times(total, tiles.largest(dim, position))
    if operand == "input":
        for axis, (output, tap) in enumerate(("PR", "QS")):
            if output in nest.dims or tap in nest.dims:
                window_of = Window(nest.layer.stride[axis], nest.layer.dilation[axis])
                rows = window_of.rows(tiles.largest(output, position), tiles.largest(tap, position))
                total = times(total, rows)
    return total if isinstance(total, np.ndarray) else np.full(tiles.sizes.shape[1], total)
