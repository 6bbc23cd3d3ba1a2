"""Traffic: the bits that a layer moves, from the accesses and what an element takes; zeros left out.

Of products that are gated or skipped the units read only what tells them so, and do not add: a factor is read
where no other factor that is looked at is zero. Its own zeros it leaves out by its representation.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tersor.targets.accelerator.counts import INPUT, PARTIAL, STREAMS, WEIGHT, Counts
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.tiles import Array


@dataclass(frozen=True)
class Traffic:
    """Bits that all memories of a level read and write, and that the busiest one does.

    [memories, streams, mappings] each. Of the latter, `unit` are those by the units themselves.
    """

    reads: Array
    writes: Array
    busiest_reads: Array
    busiest_writes: Array
    unit_reads: Array
    unit_writes: Array


def traffic(
    counts: Counts,
    bits: Array,
    densities: Densities,
    looked_at: Collection[str],
    added: Array | float = 1.0,
) -> Traffic:
    """Give the traffic of `counts` where zeros of the operands `looked_at` are gated or skipped.

    Units add `added` times [mappings] for each of their steps.
    """
    left_out = 1 - kept_accesses(counts.steps.size, densities, looked_at, added)

    def moved(accesses: Array, by_units: Array) -> Array:
        if left_out.any():
            accesses = accesses - by_units * left_out
        return accesses * bits[:, :, None]

    # What is complete is written all the same; only its last addition may be one of nothing.
    return Traffic(
        moved(counts.reads, counts.unit_reads),
        moved(counts.writes, counts.unit_writes),
        moved(counts.busiest_reads, counts.busiest_unit_reads),
        moved(counts.busiest_writes, counts.busiest_unit_writes),
        moved(counts.busiest_unit_reads, counts.busiest_unit_reads),
        moved(counts.busiest_unit_writes, counts.busiest_unit_writes),
    )


def kept_accesses(
    mappings: int, densities: Densities, looked_at: Collection[str], added: Array | float = 1.0
) -> Array:
    """The part of the units' accesses that are made: [streams, mappings]. Arguments as of `traffic`."""
    kept = np.ones((len(STREAMS), mappings))
    kept[WEIGHT] = densities.products(set(looked_at) - {"weight"})
    kept[INPUT] = densities.products(set(looked_at) - {"input"})
    kept[PARTIAL] = densities.products(looked_at) * added
    return kept
