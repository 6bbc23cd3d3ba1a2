"""Counts: how many elements each memory reads and writes for each operand, exactly.

The rules, which the simulator obeys as well:

- Fetching a tile is an instruction at one place of the nest: just inside the innermost loop in time that is
  outside of the tile and walks over the operand. (Loops of one iteration are no loops.) So a tile stays while
  loops inside of that place go on, and is fetched again by each iteration of those outside of it.
- A tile is what its loops touch: of inputs the touched rows times the touched columns, without what a stride
  steps over. Padding is there, as zeros, in the outermost memory. Neighbouring tiles fetch what they share
  again, unless the memory has `halo_reuse` and the loop just outside of that place walks over P or Q: then
  each tile after the first takes only what the one before did not have, if no axis spreads that dimension.
- Along an axis one read serves all units whose tile is the same, if it multicasts the operand, else there is
  one for each unit. If it shares halos, one read serves whoever needs the element, along loops over P, Q, R
  and S whose tiles are neighbours; not along a dimension whose window slides by `halo_reuse`.
- A unit of the array has no memory: each product reads both factors, adds to a partial sum and writes it.
- A partial sum that begins needs no read; any other that arrives at a memory is added to what is there, a
  read and a write. A tile of sums that leaves is read in its memory and arrives at the next outer one that
  keeps outputs: once for all units along an axis that reduces, else once for each. If its elements are not
  complete, the next visit brings them back, to one of the units along an axis: that is the read of the
  addition, and a write.
- Units that skip a pattern n:m of the weight make n of every m products. So many times they read and add to
  a sum, and write it; which sums begin is counted as if all were made. Factors they read all, as they lie in
  the memory: a dense weight with its zeros, and all inputs, of which they choose.
- A sum is `output` when it is complete and has left the memory that it was added up in (or is there in the
  outermost memory); `partial` before. In memories whose units sum up parts of the same outputs none is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.hardware.axis import Axis
from tersor.hardware.memory import OPERANDS
from tersor.layer import INDEXED_BY, Operand
from tersor.targets.accelerator.nest import REDUCTION, Nest, Sizes
from tersor.targets.accelerator.tiles import Array, Flag, Tiles, times
from tersor.targets.accelerator.windows import Window

STREAMS = ("weight", "input", "output", "partial")
WEIGHT, INPUT, OUTPUT, PARTIAL = range(4)
# Of a loop on an axis: whether each of its units counts, or the first for all.
Spread = Callable[[int, Axis], bool]


@dataclass(frozen=True)
class Leaving:
    """Sums [mappings] of the first memory of a level that leave it, and those of them that come back to it.

    Where they go, fewer may arrive, and of these some are added to what is there.
    """

    left: Array
    back: Array
    arrived: Array
    added: Array


@dataclass(frozen=True)
class Counts:
    """Elements read and written, [memories, streams, mappings], and the steps of the array [mappings].

    `busiest` are those of the one memory among its like that has most to do: that of the first units. Of
    both, `unit` are the accesses by the units themselves, one by one for their products.
    """

    reads: Array
    writes: Array
    busiest_reads: Array
    busiest_writes: Array
    unit_reads: Array
    unit_writes: Array
    busiest_unit_reads: Array
    busiest_unit_writes: Array
    steps: Array
    # Tiles that each level of an operand takes one after the other, and elements of the largest of them.
    stays: dict[tuple[Operand, int], Array]
    tiles: dict[tuple[Operand, int], Array]
    leaving: dict[int, Leaving]


def count(nest: Nest, sizes: Sizes) -> Counts:
    """Count the accesses of the mappings `sizes` [loops, mappings] of a nest."""
    return _Counter(nest, sizes).count()


def _everyone(place: int, axis: Axis) -> bool:
    return True


def _first(place: int, axis: Axis) -> bool:
    return False


class _Counter:
    """One run of `count`."""

    def __init__(self, nest: Nest, sizes: Sizes) -> None:
        self.nest = nest
        self.sizes = sizes
        self.tiles = Tiles(nest, sizes)
        self._fetched: dict[tuple[Operand, int | None], list[Flag]] = {}
        self._volumes: dict[tuple[object, ...], tuple[Array, list[Flag]]] = {}  # flags are kept for their ids
        self._completed: dict[tuple[int, bool], Array | float] = {}
        self.leaving: dict[int, Leaving] = {}
        layer = nest.layer
        self.windows = {
            "PR": Window(layer.stride[0], layer.dilation[0]),
            "QS": Window(layer.stride[1], layer.dilation[1]),
        }
        shape = (len(nest.hardware.memories), len(STREAMS), sizes.shape[1])
        self.reads, self.writes = np.zeros(shape), np.zeros(shape)
        self.busiest_reads, self.busiest_writes = np.zeros(shape), np.zeros(shape)
        self.unit_reads, self.unit_writes = np.zeros(shape), np.zeros(shape)
        self.busiest_unit_reads, self.busiest_unit_writes = np.zeros(shape), np.zeros(shape)

    def count(self) -> Counts:
        self._factor("weight", WEIGHT)
        self._factor("input", INPUT)
        self._sums()
        kept: list[tuple[Operand, int]] = [
            (operand, level) for operand in OPERANDS for level in self.nest.levels(operand)
        ]
        return Counts(
            self.reads,
            self.writes,
            self.busiest_reads,
            self.busiest_writes,
            self.unit_reads,
            self.unit_writes,
            self.busiest_unit_reads,
            self.busiest_unit_writes,
            self._visits_of_all([True] * len(self.nest.loops), len(self.nest.loops)),
            {each: self._stays(*each) for each in kept},
            {each: largest_tile(self.nest, self.tiles, *each) for each in kept},
            self.leaving,
        )

    def _stays(self, operand: Operand, level: int) -> Array:
        return self._visits_of_all(self._in_time(operand, level), self.nest.position(operand, level))

    def _visits_of_all(self, in_time: list[Flag], position: int) -> Array:
        flags = self._flags(in_time, _first)
        total: Array | float = 1.0
        for dim in self.nest.dims:
            total = times(total, self.tiles.visits(dim, position, flags).count)
        return self._spread_out(total)

    def _factor(self, operand: Operand, stream: int) -> None:
        """Fills of a weight's or an input's tiles, and the reads that serve them."""
        levels = self.nest.levels(operand)
        for parent, child in zip(levels, [*levels[1:], None], strict=True):
            in_time = self._in_time(operand, child)
            if child is not None:
                self.writes[child, stream] = self._volume(operand, child, self._flags(in_time, _everyone))
                first = self._flags(in_time, _first)
                self.busiest_writes[child, stream] = self._volume(operand, child, first)
            for reads, by_units, all_of in (
                (self.reads, self.unit_reads, True),
                (self.busiest_reads, self.busiest_unit_reads, False),
            ):
                flags = self._flags(in_time, self._served(operand, parent, all_of))
                reads[parent, stream] = self._volume(operand, child, flags, shared_below=parent)
                if child is None:
                    by_units[parent, stream] = reads[parent, stream]

    def _sums(self) -> None:
        """Partial sums from the units outwards, and back."""
        levels = self.nest.levels("output")
        in_time = self._in_time("output", levels[0])
        begun = self._volume("output", levels[0], self._flags(in_time, _everyone))
        begun_first, back = begun, np.zeros_like(begun)
        for parent, child in zip(levels, [*levels[1:], None], strict=True):
            fresh = begun - back
            arrived, added = self._arrive(parent, child, fresh, fresh * (begun_first / begun))
            if child is not None:
                in_time = self._in_time("output", child)
                visits = self._volume("output", child, self._flags(in_time, self._grouped(parent)))
                begun = self._volume("output", child, self._flags(in_time, _everyone))
                begun_first = self._volume("output", child, self._flags(in_time, _first))
                back = visits - fresh
                back_first = self._leave(child, begun, begun_first, back)
                self.leaving[child] = Leaving(begun_first, back_first, arrived, added)

    def _arrive(
        self, parent: int, child: int | None, fresh: Array, fresh_first: Array
    ) -> tuple[Array, Array]:
        """Add what comes from `child`, or from the units, to the sums at `parent`.

        Gives what arrives in the first memory, and what of it is added to something.
        """
        in_time = self._in_time("output", child)
        arrived, new = fresh, fresh
        for reads, writes, new, all_of in (
            (self.reads, self.writes, fresh, True),
            (self.busiest_reads, self.busiest_writes, fresh_first, False),
        ):
            arrived = self._volume("output", child, self._flags(in_time, self._added(parent, all_of)))
            complete = self._complete(parent, all_of) if parent == 0 or child is not None else 0.0
            writes[parent, OUTPUT] += complete
            writes[parent, PARTIAL] += arrived - complete
            reads[parent, PARTIAL] += arrived - new
            if child is None:
                by_units = (
                    (self.unit_reads, self.unit_writes)
                    if all_of
                    else (self.busiest_unit_reads, self.busiest_unit_writes)
                )
                by_units[0][parent, PARTIAL] = arrived - new
                by_units[1][parent, OUTPUT], by_units[1][parent, PARTIAL] = complete, arrived - complete
        return arrived, arrived - new

    def _leave(self, child: int, left: Array, left_first: Array, back: Array) -> Array:
        """Read the tiles that leave `child` and write those that come back; give the latter of the first."""
        innermost = child == self.nest.levels("output")[-1]
        back_first = back * (left_first / left)
        for reads, writes, gone, returned, all_of in (
            (self.reads, self.writes, left, back, True),
            (self.busiest_reads, self.busiest_writes, left_first, back_first, False),
        ):
            complete = 0.0 if innermost else self._complete(child, all_of)
            reads[child, OUTPUT] += complete
            reads[child, PARTIAL] += gone - complete
            writes[child, PARTIAL] += returned
        return back_first

    def _complete(self, level: int, all_of: bool) -> Array | float:
        """Outputs that are complete at `level`: all of them, or none if its units sum up different parts."""
        if (level, all_of) not in self._completed:
            self._completed[level, all_of] = self._find_complete(level, all_of)
        return self._completed[level, all_of]

    def _find_complete(self, level: int, all_of: bool) -> Array | float:
        before = sum(depth < 2 * level for depth in self.nest.depths)
        on_axes: list[Flag] = [axis is not None for axis in self.nest.axes]
        parts: Array | float = 1.0
        for dim in self.nest.dims:
            if dim in REDUCTION:
                parts = times(parts, self.tiles.visits(dim, before, on_axes).count)
        flags: list[Flag] = [axis is None or all_of for axis in self.nest.axes]
        total: Array | float = 1.0
        for dim in self.nest.dims:
            if dim in INDEXED_BY["output"]:
                total = times(total, self.tiles.visits(dim, before, flags).iterations)
        return np.where(parts == 1, total, 0.0)

    def _in_time(self, operand: Operand, level: int | None) -> list[Flag]:
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

    def _flags(self, in_time: list[Flag], spread: Spread) -> list[Flag]:
        flags = in_time.copy()
        for place, axis in self.nest.spread:
            if place >= len(flags):
                break
            flags[place] = spread(place, axis)
        return flags

    def _served(self, operand: Operand, parent: int, all_of: bool) -> Spread:
        """Which units take a read of `parent` of their own."""

        def spread(place: int, axis: Axis) -> bool:
            if self.nest.depths[place] < 2 * parent:
                return all_of
            return self.nest.indexes(place, operand) or operand not in axis.multicast

        return spread

    def _added(self, parent: int, all_of: bool) -> Spread:
        """Which units' sums arrive at `parent` each for itself."""

        def spread(place: int, axis: Axis) -> bool:
            if self.nest.depths[place] < 2 * parent:
                return all_of
            return self.nest.loops[place][0] not in REDUCTION or not axis.reduces

        return spread

    def _grouped(self, parent: int) -> Spread:
        """One for all units below `parent` that sum up the same outputs."""
        return lambda place, axis: (
            self.nest.depths[place] < 2 * parent or self.nest.loops[place][0] not in REDUCTION
        )

    def _volume(
        self, operand: Operand, level: int | None, flags: list[Flag], shared_below: int | None = None
    ) -> Array:
        """Elements of all tiles of `operand` at `level` that `flags` counts.

        With `shared_below`, units below that memory take what they share in halos together if their axis can.
        """
        key = (operand, level, shared_below, *map(id, flags))
        if key not in self._volumes:
            self._volumes[key] = self._find_volume(operand, level, flags, shared_below), flags
        return self._volumes[key][0]

    def _find_volume(
        self, operand: Operand, level: int | None, flags: list[Flag], shared_below: int | None
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
                total = times(total, self._touched(dims, position, level, flags, shared_below))
        return self._spread_out(total)

    def _touched(
        self, dims: str, position: int, level: int | None, flags: list[Flag], shared_below: int | None
    ) -> Array | float:
        """Rows (PR) or columns (QS) of all tiles of the input."""
        layer, window = self.nest.layer, self.windows[dims]
        if layer.size(dims[0]) == layer.size(dims[1]) == 1:
            return 1.0
        slides = self._slides(dims[0], position, level)
        merged = self._merged(dims, position, shared_below, slides)
        taps = self.tiles.visits(dims[1], position, flags, merged)
        total = window.touched(self.tiles.visits(dims[0], position, flags, merged), taps)
        for place, active in slides:
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
