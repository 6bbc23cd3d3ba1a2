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
from tersor.hardware.memory import OPERANDS, Buses
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

    def carrying(self, operand: Operand, bits: Array | float) -> Array | float:
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
    for level in reversed(range(len(ports))):  # products are no faster than the ports that the units use
        before = time
        reads, writes = moved.unit_reads[level].sum(axis=0), moved.unit_writes[level].sum(axis=0)
        time = np.maximum(time, ports[level].cycles(reads, writes))
        added[level] += time - before
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
            moves = _moves(nest, counts, moved, bits, level)
            every, first = _shares(nest, counts, moved, bits, level, begins)
            waiting = _together(moves, ports, every) + last
            time = time + _together(moves, ports, first)
            time = np.maximum(np.maximum(time, busy), waiting)
        else:
            moves = _moves(nest, counts, moved, bits, level)
            reads = reads - sum(each.reads for each in moves if each.level == level)
            writes = writes - sum(each.writes for each in moves if each.level == level)
            time = np.maximum(time, np.maximum(ports[level].cycles(reads, writes), carrying))
            time = time + _in_turn(counts, moves, ports, level)
        added[level] += time - before
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


def _ends(nest: Nest, counts: Counts, level: int) -> Array | float:
    """How often the sums at `level` have to be gone before others may come."""
    most: Array | float = 1.0
    for outside in nest.levels("output"):
        if 0 < outside < level and not nest.hardware.memories[outside].overlaps:
            most = np.maximum(most, counts.stays["output", outside])
    return most


@dataclass(frozen=True)
class _Move:
    """Bits that the transfers of an operand let a memory of `level` read and write.

    Of the two between which it moves, that is the one `outside`, on whose buses it comes or goes, or not.
    """

    operand: Operand
    level: int
    outside: bool
    reads: Array | float
    writes: Array | float


def _moves(nest: Nest, counts: Counts, moved: Traffic, bits: Array, level: int) -> list[_Move]:
    """What all transfers move by which tiles come to `level` and sums leave it."""
    found: list[_Move] = []
    for operand, stream in _STREAM.items():
        levels = nest.levels(operand)
        if level in levels[1:]:
            parent = levels[levels.index(level) - 1]
            found.append(_Move(operand, parent, True, moved.busiest_reads[parent, stream], 0.0))
            found.append(_Move(operand, level, False, 0.0, moved.busiest_writes[level, stream]))
    levels = nest.levels("output")
    if level in levels[1:]:
        parent, sums = levels[levels.index(level) - 1], counts.leaving[level]
        # Complete outputs leave only so, and arrive only so.
        partial = sums.left - counts.busiest_reads[level, OUTPUT]
        left = moved.busiest_reads[level, OUTPUT] + partial * bits[level, PARTIAL]
        found.append(_Move("output", level, False, left, sums.back * bits[level, PARTIAL]))
        partial = sums.arrived - counts.busiest_writes[parent, OUTPUT]
        gone = moved.busiest_writes[parent, OUTPUT] + partial * bits[parent, PARTIAL]
        found.append(_Move("output", parent, True, sums.added * bits[parent, PARTIAL], gone))
    return found


def _in_turn(counts: Counts, moves: list[_Move], ports: list[_Ports], level: int) -> Array:
    """Cycles of all transfers if nothing else goes on with them.

    Those come together that change together: an operand that changes more often does so with all others too.
    """
    operands: list[Operand] = [each for each in OPERANDS if any(move.operand == each for move in moves)]
    if not operands:
        return np.zeros(counts.steps.shape)
    stays = np.stack([counts.stays[operand, level] for operand in operands])
    total, before = np.zeros(counts.steps.shape), np.zeros(counts.steps.shape)
    for changes in np.sort(stays, axis=0):
        shares: dict[Operand, Array | float] = {
            operand: (each >= changes) / each for operand, each in zip(operands, stays, strict=True)
        }
        total += (changes - before) * _together(moves, ports, shares)
        before = changes
    return total


def _together(moves: list[_Move], ports: list[_Ports], shares: dict[Operand, Array | float]) -> Array | float:
    """Cycles in which a share of the transfers of each operand is made, all of them at the same time."""
    slowest: Array | float = 0.0
    for level in {move.level for move in moves}:
        reads: Array | float = 0.0
        writes: Array | float = 0.0
        for move in moves:
            if move.level == level:
                share = shares[move.operand]
                reads, writes = reads + move.reads * share, writes + move.writes * share
                if move.outside:
                    bits = move.writes if move.operand == "output" else move.reads
                    slowest = np.maximum(slowest, ports[level].carrying(move.operand, bits * share))
        slowest = np.maximum(slowest, ports[level].cycles(reads, writes))
    return slowest


def _shares(
    nest: Nest, counts: Counts, moved: Traffic, bits: Array, level: int, begins: Array | float
) -> tuple[dict[Operand, Array | float], dict[Operand, Array | float]]:
    """All transfers of each operand at `level`, and the share that those are by which it begins anew."""
    first: dict[Operand, Array | float] = {}
    if level in nest.levels("output"):
        stays = counts.stays["output", level]
        streams = nest.hardware.memories[
            level
        ].streams  # its one place has to be clear before all begins anew
        ends = begins if streams else _ends(nest, counts, level)
        first["output"] = np.minimum(ends, stays) / stays
    for operand in _STREAM:
        if level in nest.levels(operand):
            first[operand] = _first_tiles(counts, moved, bits, operand, level, begins)
    return {"weight": 1.0, "input": 1.0, "output": 1.0}, first


def _first_tiles(
    counts: Counts, moved: Traffic, bits: Array, operand: Operand, level: int, begins: Array | float
) -> Array | float:
    """The part of what fills `level` that the first tiles are: whole ones, of which nothing is there yet."""
    written = moved.busiest_writes[level, _STREAM[operand]]
    tile = counts.tiles[operand, level] * bits[level, _STREAM[operand]]
    first = np.minimum(begins, counts.stays[operand, level]) * tile
    return np.minimum(np.divide(first, written, out=np.ones_like(written), where=written > 0), 1.0)
