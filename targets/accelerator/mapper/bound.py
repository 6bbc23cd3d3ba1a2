"""Bound: cycles and energy that no mapping of a layer can be below.

Products take all units that the axes can spread the layer over, and one pass is waited for; each tensor
passes its home once (the outermost memory where it does not stay on the chip); and each product's factors are
read, and its sum read and written, in the memory where that is the cheapest, one access for as many units as
the axes can serve together.
"""

from dataclasses import dataclass
from math import prod

from tersor.hardware import Hardware
from tersor.layer import INDEXED_BY, Layer, Operand
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import density_of, element_bits
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.latency import pass_delay
from tersor.targets.accelerator.mapper.steps import least_steps
from tersor.targets.accelerator.model import arithmetic_of
from tersor.targets.accelerator.residency import Operands, home_of
from tersor.targets.accelerator.windows import touched


@dataclass(frozen=True)
class Bound:
    """The least cycles and pJ."""

    cycles: float
    energy: float

    @property
    def edp(self) -> float:
        """The least product of cycles and pJ: no mapping is below either."""
        return self.cycles * self.energy


def bound(
    layer: Layer,
    scheme: Scheme,
    hardware: Hardware,
    densities: Densities = DENSE,
    output_bits: int | None = None,
    on_chip: Operands = (),
) -> Bound:
    """The bound of a layer that `why_no_layer` has nothing against; other arguments as of `mapper.Task`."""
    densities = density_of(scheme, densities)
    bits = element_bits(layer, scheme, hardware, densities, output_bits)
    arithmetic = arithmetic_of(scheme, hardware, densities)
    kept = densities.products(arithmetic.looked_at)  # what may be left of accesses by units
    outermost = hardware.memories[0]
    homes: dict[Operand, int] = {each: home_of(each, on_chip, hardware) for each in INDEXED_BY}
    bits_of: dict[Operand, float] = {
        "weight": layer.weight_count * bits[0, WEIGHT],
        "input": touched(layer) * bits[0, INPUT],
        "output": layer.output_count * min(bits[0, OUTPUT], bits[0, PARTIAL]),
    }
    outside: dict[Operand, float] = {each: 0.0 if homes[each] else bits_of[each] for each in bits_of}
    written, read = outside["output"], kept * (outside["weight"] + outside["input"])
    rates = (
        8 * hardware.read_bandwidth(outermost) / hardware.clock,
        8 * hardware.write_bandwidth(outermost) / hardware.clock,
    )
    moving = read / rates[0] + kept * written / rates[1]
    if outermost.bandwidth is None:
        moving = max(read / rates[0], kept * written / rates[1])
    cycles = max(least_steps(layer, hardware) / arithmetic.rate + pass_delay(hardware), moving)
    energy = layer.macs * arithmetic.energy
    streams: dict[Operand, tuple[int, float]] = {
        "weight": (WEIGHT, layer.weight_count),
        "input": (INPUT, touched(layer)),
        "output": (OUTPUT, layer.output_count),
    }
    for operand, (stream, count) in streams.items():
        home = homes[operand]
        by_units = _by_units(
            operand, layer, hardware, home, bits[:, stream].tolist(), bits[:, PARTIAL].tolist()
        )
        memory, least = hardware.memories[home], bits[home, stream]
        energy_per_byte = memory.energy_per_byte
        if operand == "output":
            by_units = [each * arithmetic.added for each in by_units]
            least, energy_per_byte = min(least, bits[home, PARTIAL]), memory.write_energy
        at_home = count * least * energy_per_byte / 8
        direct = by_units[0] if by_units[0] > at_home else at_home  # units may read the home itself
        inside = min((at_home + each for each in by_units[1:]), default=direct)
        energy += kept * min(direct, inside)
    return Bound(float(cycles), float(energy))


def _by_units(
    operand: Operand, layer: Layer, hardware: Hardware, home: int, bits: list[float], partial: list[float]
) -> list[float]:
    """pJ of the accesses of the units to each memory that keeps the operand, its home first."""
    found: list[float] = []
    names = [memory.name for memory in hardware.memories]
    for level, memory in enumerate(hardware.memories):
        if operand not in memory.keeps or level < home:
            continue
        serves = 1.0
        for axis in hardware.axes:
            if names.index(axis.inside) < level:
                continue
            if axis.reduces if operand == "output" else operand in axis.multicast:
                dims = set(axis.unrolls) - INDEXED_BY[operand]
                if operand == "input" and axis.shares_halo:
                    dims |= set(axis.unrolls) & set("PQRS")
                serves *= min(axis.size, prod(layer.size(dim) for dim in dims))
        accesses = layer.macs / serves
        if operand != "output":
            energy = accesses * bits[level] * memory.energy_per_byte
        elif level == home:  # an output that begins is not read
            energy = accesses * min(bits[home], partial[home]) * memory.write_energy
            energy += max(accesses - layer.output_count, 0) * partial[home] * memory.energy_per_byte
        else:  # read for each addition, or when it leaves
            energy = accesses * partial[level] * (memory.write_energy + memory.energy_per_byte)
        found.append(energy / 8)
    return found
