"""Counts: how many elements each memory reads and writes for each operand, exactly.

The rules, which the simulator obeys as well:

- Fetching a tile is an instruction at one place of the nest: just inside the innermost loop in time that is
  outside of the tile and walks over the operand. (Loops of one iteration are no loops.) So a tile stays while
  loops inside of that place go on, and is fetched again by each iteration of those outside of it.
- A tile is what its loops touch: of inputs the touched rows times the touched columns, without what a stride
  steps over. Padding is there, as zeros, in its home. Neighbouring tiles fetch what they share
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
- A sum is `output` when it is complete and has left the memory that it was added up in (or is there in its
  home); `partial` before. In memories whose units sum up parts of the same outputs none is.
- The home of an operand is the outermost memory that keeps it, and has all of it at all times. Nothing moves
  outside of it.
"""

from dataclasses import dataclass

import numpy as np

from tersor.hardware.memory import OPERANDS
from tersor.layer import INDEXED_BY, Operand
from tersor.targets.accelerator.nest import REDUCTION, Nest, Sizes
from tersor.targets.accelerator.tiles import Array, Flag, times
from tersor.targets.accelerator.volumes import Volumes, every_unit, first_unit, largest_tile

STREAMS = ("weight", "input", "output", "partial")
WEIGHT, INPUT, OUTPUT, PARTIAL = range(4)


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


class _Counter:
    """One run of `count`."""

    def __init__(self, nest: Nest, sizes: Sizes) -> None:
        self.nest = nest
        self.sizes = sizes
        self.volumes = Volumes(nest, sizes)
        self._completed: dict[tuple[int, bool], Array | float] = {}
        self.leaving: dict[int, Leaving] = {}
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
            self.volumes.visits([True] * len(self.nest.loops), len(self.nest.loops)),
            {each: self._stays(*each) for each in kept},
            {each: largest_tile(self.nest, self.volumes.tiles, *each) for each in kept},
            self.leaving,
        )

    def _stays(self, operand: Operand, level: int) -> Array:
        return self.volumes.visits(self.volumes.in_time(operand, level), self.nest.position(operand, level))

    def _factor(self, operand: Operand, stream: int) -> None:
        """Fills of a weight's or an input's tiles, and the reads that serve them."""
        levels, volumes = self.nest.levels(operand), self.volumes
        for parent, child in zip(levels, [*levels[1:], None], strict=True):
            in_time = volumes.in_time(operand, child)
            if child is not None:
                self.writes[child, stream] = volumes.volume(
                    operand, child, volumes.flags(in_time, every_unit)
                )
                first = volumes.flags(in_time, first_unit)
                self.busiest_writes[child, stream] = volumes.volume(operand, child, first)
            for reads, by_units, all_of in (
                (self.reads, self.unit_reads, True),
                (self.busiest_reads, self.busiest_unit_reads, False),
            ):
                flags = volumes.flags(in_time, volumes.served(operand, parent, all_of))
                reads[parent, stream] = volumes.volume(operand, child, flags, shared_below=parent)
                if child is None:
                    by_units[parent, stream] = reads[parent, stream]

    def _sums(self) -> None:
        """Partial sums from the units outwards, and back."""
        levels, volumes = self.nest.levels("output"), self.volumes
        in_time = volumes.in_time("output", levels[0])
        begun = volumes.volume("output", levels[0], volumes.flags(in_time, every_unit))
        begun_first, back = begun, np.zeros_like(begun)
        for parent, child in zip(levels, [*levels[1:], None], strict=True):
            fresh = begun - back
            arrived, added = self._arrive(parent, child, fresh, fresh * (begun_first / begun))
            if child is not None:
                in_time = volumes.in_time("output", child)
                visits = volumes.volume("output", child, volumes.flags(in_time, volumes.grouped(parent)))
                begun = volumes.volume("output", child, volumes.flags(in_time, every_unit))
                begun_first = volumes.volume("output", child, volumes.flags(in_time, first_unit))
                back = visits - fresh
                back_first = self._leave(child, begun, begun_first, back)
                self.leaving[child] = Leaving(begun_first, back_first, arrived, added)

    def _arrive(
        self, parent: int, child: int | None, fresh: Array, fresh_first: Array
    ) -> tuple[Array, Array]:
        """Add what comes from `child`, or from the units, to the sums at `parent`.

        Gives what arrives in the first memory, and what of it is added to something.
        """
        volumes = self.volumes
        in_time = volumes.in_time("output", child)
        arrived, new = fresh, fresh
        for reads, writes, new, all_of in (
            (self.reads, self.writes, fresh, True),
            (self.busiest_reads, self.busiest_writes, fresh_first, False),
        ):
            arrived = volumes.volume("output", child, volumes.flags(in_time, volumes.added(parent, all_of)))
            known = parent == self.nest.home("output") or child is not None
            complete = self._complete(parent, all_of) if known else 0.0
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
                parts = times(parts, self.volumes.tiles.visits(dim, before, on_axes).count)
        flags: list[Flag] = [axis is None or all_of for axis in self.nest.axes]
        total: Array | float = 1.0
        for dim in self.nest.dims:
            if dim in INDEXED_BY["output"]:
                total = times(total, self.volumes.tiles.visits(dim, before, flags).iterations)
        return np.where(parts == 1, total, 0.0)
