"""The analytic model: cycles, energy and traffic of many mappings of a layer at once.

accesses (counts)  x  bits of an element (bits)  =  traffic  ->  latency, energy

The cycles of `evaluate` come from sums over all that moves, for many mappings at once, and are there to rank
them; those of one mapping, `scheduled`, from its transfers one by one. They are what is said of a mapping.
"""

from dataclasses import dataclass, replace

import numpy as np

from tersor.cost import Cost
from tersor.formats.size import stored_bytes
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapping import Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import Factors, density_of, element_bits
from tersor.targets.accelerator.counts import Counts, count
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.imbalance import imbalance
from tersor.targets.accelerator.latency import Latency, latency
from tersor.targets.accelerator.legality import needed_bytes, why_no_layer, why_not
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.schedule.schedule import Schedule, schedule
from tersor.targets.accelerator.stepping import Stepping, stepping
from tersor.targets.accelerator.tiles import Array
from tersor.targets.accelerator.traffic import Traffic, kept_accesses, traffic
from tersor.targets.accelerator.volumes import Volumes


@dataclass(frozen=True)
class Evaluation:
    """What each of the mappings takes; the last axis of every array is that of the mappings.

    `memory_energy` is in pJ [memories, streams, mappings], `compute_energy` in pJ [mappings]; their sum is
    `energy`. `needed` are the bytes that the tiles take in each memory.
    """

    counts: Counts
    traffic: Traffic
    latency: Latency
    memory_energy: Array
    compute_energy: Array
    needed: Array

    @property
    def cycles(self) -> Array:
        """All cycles."""
        return self.latency.total

    @property
    def energy(self) -> Array:
        """All energy, pJ."""
        return self.compute_energy + self.memory_energy.sum(axis=(0, 1))


def evaluate(
    nest: Nest, sizes: Sizes, scheme: Scheme, densities: Densities = DENSE, output_bits: int | None = None
) -> Evaluation:
    """Evaluate the mappings `sizes` [loops, mappings] of a nest. Whether tiles fit is for the caller to see.

    `output_bits` are those of what reads the output, if it is not as wide as the layer's own input.
    Raises ValueError with `why_no_layer`'s reason.
    """
    layer, hardware = nest.layer, nest.hardware
    if reason := why_no_layer(layer, scheme, hardware):
        raise ValueError(reason)
    densities = density_of(scheme, densities)
    counts = count(nest, sizes)
    bits = element_bits(layer, scheme, hardware, densities, output_bits)
    arithmetic = arithmetic_of(scheme, hardware, densities)
    taken = _stepping(nest, sizes, counts.steps, arithmetic, densities)
    moved = traffic(counts, bits, densities, arithmetic.looked_at, taken.added)
    energy = np.zeros_like(moved.reads)
    for level, memory in enumerate(hardware.memories):
        energy[level] = moved.reads[level] * (memory.energy_per_byte / 8)
        energy[level] += moved.writes[level] * (memory.write_energy / 8)
    compute = np.full(counts.steps.shape, layer.macs * arithmetic.energy)
    return Evaluation(
        counts,
        moved,
        latency(nest, counts, moved, bits, taken.cycles),
        energy,
        compute,
        needed_bytes(nest, counts, bits),
    )


def scheduled(
    nest: Nest, sizes: Sizes, scheme: Scheme, densities: Densities = DENSE, output_bits: int | None = None
) -> Schedule:
    """The cycles of one mapping, `sizes` [loops, 1] of a nest; `output_bits` as for `evaluate`.

    Raises ValueError with `why_no_layer`'s reason.
    """
    layer, hardware = nest.layer, nest.hardware
    if reason := why_no_layer(layer, scheme, hardware):
        raise ValueError(reason)
    densities = density_of(scheme, densities)
    arithmetic = arithmetic_of(scheme, hardware, densities)
    steps = Volumes(nest, sizes).visits([True] * len(nest.loops), len(nest.loops))
    taken = _stepping(nest, sizes, steps, arithmetic, densities)
    kept = kept_accesses(1, densities, arithmetic.looked_at, taken.added)
    bits = element_bits(layer, scheme, hardware, densities, output_bits)
    return schedule(nest, sizes, bits, kept[:, 0], float(taken.cycles[0] / steps[0]))


def estimate(
    layer: Layer, scheme: Scheme, mapping: Mapping, hardware: Hardware, densities: Densities = DENSE
) -> Cost:
    """The cost of one run of `layer` as `mapping` says. Raises ValueError with `why_not`'s reason."""
    if reason := why_not(layer, scheme, mapping, hardware, densities):
        raise ValueError(reason)
    nest, sizes = Nest.of(mapping, layer, hardware)
    found = evaluate(nest, sizes, scheme, densities)
    moved = (found.traffic.reads + found.traffic.writes).sum(axis=1) / 8
    return Cost(
        seconds=scheduled(nest, sizes, scheme, densities).cycles / hardware.clock,
        energy=float(found.energy[0]),
        traffic={memory.name: float(moved[i, 0]) for i, memory in enumerate(hardware.memories)},
        size=stored_bytes(layer, scheme),
        peak_memory=-(-(layer.input_count + layer.output_count) * scheme.input_bits // 8),
    )


@dataclass(frozen=True)
class Arithmetic:
    """Of one unit: steps in a cycle if it waits for none, and pJ for each product of the dense layer."""

    rate: float
    energy: float
    looked_at: frozenset[str]  # operands whose zeros are gated or skipped
    skipped: frozenset[str] = frozenset()  # those whose zeros are skipped
    fused: float = 1.0  # of the products in a cycle, those along the dimension that the datapath fuses
    pattern_density: float = 1.0  # of the weight, where its pattern is skipped

    @property
    def added(self) -> float:
        """How many times a unit adds to a sum for each product of the dense layer, at least."""
        return self.pattern_density / self.fused


def arithmetic_of(scheme: Scheme, hardware: Hardware, densities: Densities) -> Arithmetic:
    """The arithmetic of one unit of `hardware` under a scheme that `why_no_layer` has nothing against."""
    factors = Factors.of(scheme)
    unit, datapath = factors.unit(hardware), hardware.datapath
    assert unit  # why_no_layer has looked
    fused = 1.0
    if datapath is None or not factors.integer:
        rate, energy = unit.macs_per_cycle / hardware.units, unit.energy_per_mac
    else:
        rate, energy = datapath.macs(factors.weight, factors.input), unit.energy_per_mac
        fused = datapath.fused(factors.weight, factors.input)
        if datapath.mode in ("bit_serial", "bit_brick"):  # the energy of the parts that are at work
            energy *= datapath.macs(unit.bits, unit.bits) / rate
    if scheme.sparsity in unit.skips:
        assert scheme.sparsity
        density = scheme.sparsity.density
        return Arithmetic(rate / density, energy * density, frozenset(), frozenset(), fused, density)
    if datapath is None:
        return Arithmetic(rate, energy, frozenset())
    done = densities.products(datapath.skips)
    looked_at = frozenset((*datapath.skips, *datapath.gates))
    left = energy * densities.products(looked_at)
    skipped = frozenset(datapath.skips)
    return Arithmetic(rate / done if done else np.inf, left, looked_at, skipped, fused)


def _stepping(
    nest: Nest, sizes: Sizes, steps: Array, arithmetic: Arithmetic, densities: Densities
) -> Stepping:
    """What all steps take, units that skip zeros waiting for one another."""
    taken = stepping(nest, sizes, steps, arithmetic.rate, arithmetic.fused, arithmetic.pattern_density)
    waited = imbalance(
        nest,
        sizes,
        densities.weight if "weight" in arithmetic.skipped else 1.0,
        densities.products(["input"]) if "input" in arithmetic.skipped else 1.0,
    )
    return replace(taken, cycles=taken.cycles * waited)
