"""Latency: the cycles of the array, and what waiting for each memory adds to them.

From the innermost memory outwards: what lies inside of a memory cannot be faster than its busiest port or
bus. If it is double buffered or streams, the next tiles come and sums leave meanwhile: either the first tiles
and the last sums are waited for, or all tiles are and the last one is worked on. If it is not, the two take
turns. While they do, nothing inside works ahead, so there the first tiles are waited for again each time.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from tersor.hardware import Hardware
from tersor.hardware.memory import Buses
from tersor.layer import Operand
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT, Counts
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.tiles import Array
from tersor.targets.accelerator.traffic import Traffic

_STREAM: dict[Operand, int] = {"weight": WEIGHT, "input": INPUT}


@dataclass(frozen=True)
class Latency:
    """Cycles [mappings] of the array, and what each memory adds: [memories, mappings].

    `busy` are the cycles [memories, mappings] that the busiest port of a level moves bits in.
    """

    compute: Array
    added: Array
    busy: Array

    @property
    def total(self) -> Array:
        """All cycles."""
        return self.compute + self.added.sum(axis=0)


@dataclass(frozen=True)
class _Ports:
    """Bits that one memory reads and writes in a cycle, and those that its buses carry inwards and back."""

    read: float
    write: float
    shared: bool
    buses: Buses

    def cycles(self, reads: Array | float, writes: Array | float) -> Array:
        """Cycles to move these bits."""
        read, write = np.asarray(reads) / self.read, np.asarray(writes) / self.write
        return read + write if self.shared else np.maximum(read, write)

    def carrying(self, operand: Operand, bits: Array) -> Array | float:
        """Cycles to carry these bits of an operand on its bus."""
        width = self.buses.of(operand)
        return bits / width if width < inf else 0.0

    def carrying_all(self, reads: Array, writes: Array) -> Array | float:
        """Cycles to carry these bits [streams, mappings] on the buses."""
        if self.buses == Buses():
            return 0.0
        sums = np.maximum(reads[PARTIAL], writes[OUTPUT] + writes[PARTIAL])
        factors = np.maximum(self.carrying("weight", reads[WEIGHT]), self.carrying("input", reads[INPUT]))
        return np.maximum(factors, self.carrying("output", sums))


def latency(nest: Nest, counts: Counts, moved: Traffic, bits: Array, stepping: Array) -> Latency:
    """Give the cycles where the array's steps take those of `stepping`."""
    hardware = nest.hardware
    ports = [_ports(hardware, level) for level in range(len(hardware.memories))]
    compute = stepping + _passes(nest, counts) * pass_delay(hardware)
    time, added = compute, np.zeros((len(ports), compute.size))
    all_busy = np.zeros_like(added)
    for level in reversed(range(len(ports))):
        before = time
        reads, writes = moved.busiest_reads[level].sum(axis=0), moved.busiest_writes[level].sum(axis=0)
        carrying = ports[level].carrying_all(moved.busiest_reads[level], moved.busiest_writes[level])
        all_busy[level] = busy = np.maximum(ports[level].cycles(reads, writes), carrying)
        if level == 0:
            time = np.maximum(time, busy)
        elif hardware.memories[level].overlaps:
            begins = _begins(nest, counts, level)
            last = time / _tiles_in_turn(nest, counts, level) * begins
            waiting = _transfer(nest, counts, moved, bits, ports, level) + last
            time = time + _transfer(nest, counts, moved, bits, ports, level, begins)
            time = np.maximum(np.maximum(time, busy), waiting)
        else:
            filled = moved.busiest_writes[level, : INPUT + 1].sum(axis=0)
            serving = np.maximum(ports[level].cycles(reads, writes - filled), carrying)
            time = np.maximum(time, serving) + _transfer(nest, counts, moved, bits, ports, level)
        added[level] = time - before
    return Latency(compute, added, all_busy)


def _ports(hardware: Hardware, level: int) -> _Ports:
    memory = hardware.memories[level]
    read, write = hardware.read_bandwidth(memory), hardware.write_bandwidth(memory)
    return _Ports(
        8 * read / hardware.clock, 8 * write / hardware.clock, memory.bandwidth is not None, memory.buses
    )


def _passes(nest: Nest, counts: Counts) -> Array | float:
    """Tiles of the stationary operand that the units take one after the other."""
    datapath = nest.hardware.datapath
    if datapath is None or datapath.stationary is None:
        return 0.0
    return counts.stays[datapath.stationary, nest.levels(datapath.stationary)[-1]]


def pass_delay(hardware: Hardware) -> float:
    """Cycles that each pass of the stationary operand takes more than its steps."""
    if hardware.datapath is None:
        return 0.0
    delays = [hardware.axis(name).size - 1 for name in hardware.datapath.skew]
    return sum(delays) + sum(hardware.axis(name).size for name in hardware.datapath.loads)


def _tiles_in_turn(nest: Nest, counts: Counts, level: int) -> Array | float:
    """How often the tiles of the operand change that changes most often at `level`."""
    most: Array | float = 1.0
    for (_, at), stays in counts.stays.items():
        if at == level:
            most = np.maximum(most, stays)
    return most


def _begins(nest: Nest, counts: Counts, level: int) -> Array | float:
    """How often what lies outside of `level` takes turns with it, so that it begins anew."""
    most: Array | float = 1.0
    for outside in range(1, level):
        if not nest.hardware.memories[outside].overlaps:
            most = np.maximum(most, _tiles_in_turn(nest, counts, outside))
    return most


def _transfer(
    nest: Nest,
    counts: Counts,
    moved: Traffic,
    bits: Array,
    ports: list[_Ports],
    level: int,
    begins: Array | float | None = None,
) -> Array:
    """Cycles to fill the tiles at `level` and to take the sums away: all, or one each time it begins."""
    filled: Array | float = 0.0
    slowest: Array | float = 0.0
    outside: dict[int, list[Array | float]] = {}
    for operand, stream in _STREAM.items():
        levels = nest.levels(operand)
        if level in levels:
            parent = levels[levels.index(level) - 1]
            part = _first_tiles(counts, moved, bits, operand, level, begins)
            filled = filled + moved.busiest_writes[level, stream] * part
            reads = moved.busiest_reads[parent, stream] * part
            outside.setdefault(parent, [0.0, 0.0])[0] += reads
            slowest = np.maximum(slowest, ports[parent].carrying(operand, reads))
    left: Array | float = 0.0
    levels = nest.levels("output")
    if level in levels:
        parent = levels[levels.index(level) - 1]
        stays = counts.stays["output", level]
        part = 1.0 if begins is None else np.minimum(begins, stays) / stays
        gone = (moved.busiest_writes[parent, OUTPUT] + moved.busiest_writes[parent, PARTIAL]) * part
        left = counts.tiles["output", level] * bits[level, PARTIAL] * (stays * part)
        outside.setdefault(parent, [0.0, 0.0])[1] += gone
        slowest = np.maximum(slowest, ports[parent].carrying("output", gone))
    slowest = np.maximum(slowest, ports[level].cycles(left, filled))
    for parent, (reads, writes) in outside.items():
        slowest = np.maximum(slowest, ports[parent].cycles(reads, writes))
    return np.broadcast_to(slowest, counts.steps.shape)


def _first_tiles(
    counts: Counts, moved: Traffic, bits: Array, operand: Operand, level: int, begins: Array | float | None
) -> Array | float:
    """The part of what fills `level` that the first tiles are: whole ones, of which nothing is there yet."""
    if begins is None:
        return 1.0
    written = moved.busiest_writes[level, _STREAM[operand]]
    tile = counts.tiles[operand, level] * bits[level, _STREAM[operand]]
    first = np.minimum(begins, counts.stays[operand, level]) * tile
    return np.minimum(np.divide(first, written, out=np.ones_like(written), where=written > 0), 1.0)
