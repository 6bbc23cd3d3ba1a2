"""Schedule: the cycles of one mapped layer, its transfers and steps as tiles, places and ports let them.

Each transfer and each step is made in the order of the layer's program, as a machine would make it
(`ledger`), but of the iterations of a loop only those that differ from the ones before (`walk`). That is the
model of time: `latency` gives near to the same for many mappings at once, by sums over all that moves, and is
there to rank them.
"""

from dataclasses import dataclass

from tersor.targets.accelerator.latency import pass_delay
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.schedule.ledger import Ledger
from tersor.targets.accelerator.schedule.moves import Moves
from tersor.targets.accelerator.schedule.walk import Walk
from tersor.targets.accelerator.tiles import Array


@dataclass(frozen=True)
class Schedule:
    """All cycles, and those of them in which the array waits for tiles or ports of each memory [memories]."""

    cycles: float
    waits: Array


def schedule(nest: Nest, sizes: Sizes, bits: Array, kept: Array, cycles: float) -> Schedule:
    """Give the cycles of one mapping, `sizes` [loops, 1] of a nest.

    `bits` [memories, streams] are those of an element, `kept` [streams] the part of the units' accesses that
    are made where zeros are left out, `cycles` those of a step. A memory that streams has two places for each
    operand here, as one that is double buffered.
    """
    hardware = nest.hardware
    moves = Moves(nest, sizes[:, 0], bits, kept, cycles)
    overlaps = [hardware.memories[tile.level].overlaps for tile in moves.tiles]
    ledger = Ledger(len(moves.ports.speed), [1 + each for each in overlaps], len(hardware.memories))
    stationary = hardware.datapath.stationary if hardware.datapath else None
    number = next(
        (n for n, tile in enumerate(moves.tiles) if tile.innermost and tile.operand == stationary), None
    )
    walk = Walk(moves, ledger, overlaps, number, pass_delay(hardware))
    walk.run(pending=stationary is not None and number is None)
    waits = ledger.waiting.copy()
    for tile, cycles_of_tile in zip(moves.tiles, ledger.stalls.tolist(), strict=True):
        waits[tile.level] += cycles_of_tile
    return Schedule(ledger.now, waits)
