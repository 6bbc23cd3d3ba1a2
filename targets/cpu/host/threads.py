"""Threads: the least work that is worth sharing with a second one.

A parallel region costs TVM's thread pool 1.3 us where the other thread waits awake, 4 to 10 us where it has
to share its core with another process, and more where it fell asleep. Below the grain a kernel runs in the
thread that calls it, its tasks one after the other.
"""

from tersor.targets.cpu.host.detect import NOMINAL_CLOCK, macs_per_cycle
from tersor.targets.cpu.host.isa import Isa

# Seconds of one core: half of it is saved with two, several times what a contended region costs.
GRAIN = 25e-6
# Cycles that a vector of anything takes at least: it is loaded from a cache and stored to one.
VECTOR_CYCLES = 4


def worth_sharing(isa: Isa, macs: int, integer: bool, efficiency: float = 1.0) -> bool:
    """Whether a kernel of so many multiply-accumulates takes one core longer than the grain.

    `efficiency` is the share of the instruction set's usual rate that the kernel's inner loop reaches.
    """
    rate = macs_per_cycle(isa, "int8" if integer else "fp32") * efficiency
    return macs >= GRAIN * NOMINAL_CLOCK * rate


def worth_sharing_elements(lanes: int, elements: int, operations: int) -> bool:
    """Whether so many operations on each of so many elements take one core longer than the grain."""
    cycles = max(operations, VECTOR_CYCLES) * elements / lanes
    return cycles >= GRAIN * NOMINAL_CLOCK
