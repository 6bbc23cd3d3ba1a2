"""Latency: the cycles of the array, and what waiting for each memory adds to them.

From the innermost memory outwards: what lies inside of a memory cannot be faster than its busiest port. If it
is double buffered, the next tiles come and sums leave meanwhile: either the first tiles and the last sums are
waited for, or all tiles are and the last one is worked on. If it is not, the two take turns.
"""

from dataclasses import dataclass

import numpy as np

from tersor.hardware import Hardware
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
    """Bits that one memory reads and writes in a cycle."""

    read: float
    write: float
    shared: bool

    def cycles(self, reads: Array | float, writes: Array | float) -> Array:
        """Cycles to move these bits."""
        read, write = np.asarray(reads) / self.read, np.asarray(writes) / self.write
        return read + write if self.shared else np.maximum(read, write)


def latency(nest: Nest, counts: Counts, moved: Traffic, bits: Array, rate: float) -> Latency:
    """Give the cycles where a unit makes `rate` products in each, of those that are not skipped."""
    hardware = nest.hardware
    ports = [_ports(hardware, level) for level in range(len(hardware.memories))]
    compute = counts.steps / rate + _passes(nest, counts) * _skew(hardware)
    time, added = compute, np.zeros((len(ports), compute.size))
    all_busy = np.zeros_like(added)
    for level in reversed(range(len(ports))):
        before = time
        reads, writes = moved.busiest_reads[level].sum(axis=0), moved.busiest_writes[level].sum(axis=0)
        all_busy[level] = busy = ports[level].cycles(reads, writes)
        if level == 0:
            time = np.maximum(time, busy)
        elif hardware.memories[level].double_buffered:
            last = time / _tiles_in_turn(nest, counts, level)
            waiting = _transfer(nest, counts, moved, bits, ports, level, once=False) + last
            time = time + _transfer(nest, counts, moved, bits, ports, level, once=True)
            time = np.maximum(np.maximum(time, busy), waiting)
        else:
            filled = moved.busiest_writes[level, : INPUT + 1].sum(axis=0)
            serving = ports[level].cycles(reads, writes - filled)
            time = np.maximum(time, serving) + _transfer(nest, counts, moved, bits, ports, level, once=False)
        added[level] = time - before
    return Latency(compute, added, all_busy)


def _ports(hardware: Hardware, level: int) -> _Ports:
    memory = hardware.memories[level]
    read, write = hardware.read_bandwidth(memory), hardware.write_bandwidth(memory)
    return _Ports(8 * read / hardware.clock, 8 * write / hardware.clock, memory.bandwidth is not None)


def _passes(nest: Nest, counts: Counts) -> Array | float:
    """Tiles of the stationary operand that the units take one after the other."""
    datapath = nest.hardware.datapath
    if datapath is None or datapath.stationary is None:
        return 0.0
    return counts.stays[datapath.stationary, nest.levels(datapath.stationary)[-1]]


def _skew(hardware: Hardware) -> float:
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


def _transfer(
    nest: Nest, counts: Counts, moved: Traffic, bits: Array, ports: list[_Ports], level: int, once: bool
) -> Array:
    """Cycles to fill the tiles at `level` and to take the sums away: all of them, or one of each."""
    filled: Array | float = 0.0
    outside: dict[int, list[Array | float]] = {}
    for operand, stream in _STREAM.items():
        levels = nest.levels(operand)
        if level in levels:
            parent = levels[levels.index(level) - 1]
            times = counts.stays[operand, level] if once else 1.0
            filled = filled + moved.busiest_writes[level, stream] / times
            outside.setdefault(parent, [0.0, 0.0])[0] += moved.busiest_reads[parent, stream] / times
    left: Array | float = 0.0
    levels = nest.levels("output")
    if level in levels:
        parent = levels[levels.index(level) - 1]
        times = counts.stays["output", level] if once else 1.0
        gone = moved.busiest_writes[parent, OUTPUT] + moved.busiest_writes[parent, PARTIAL]
        left = counts.tiles["output", level] * bits[level, PARTIAL] * (counts.stays["output", level] / times)
        outside.setdefault(parent, [0.0, 0.0])[1] += gone / times
    slowest = ports[level].cycles(left, filled)
    for parent, (reads, writes) in outside.items():
        slowest = np.maximum(slowest, ports[parent].cycles(reads, writes))
    return np.broadcast_to(slowest, counts.steps.shape)
