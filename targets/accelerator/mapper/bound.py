"""Bound: cycles and energy that no mapping of a layer can be below.

Products take all units that the axes can spread the layer over, and one pass is waited for; each tensor
passes the outermost memory once; and each product's factors are read, and its sum read and written, in the
memory where that is the cheapest, one access for as many units as the axes can serve together.
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
from tersor.targets.accelerator.windows import Window


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
) -> Bound:
    """The bound of a layer that `why_no_layer` has nothing against."""
    densities = density_of(scheme, densities)
    bits = element_bits(layer, scheme, hardware, densities, output_bits)
    arithmetic = arithmetic_of(scheme, hardware, densities)
    kept = densities.products(arithmetic.looked_at)  # what may be left of accesses by units
    outermost = hardware.memories[0]
    written = layer.output_count * min(bits[0, OUTPUT], bits[0, PARTIAL])
    read = kept * (layer.weight_count * bits[0, WEIGHT] + _touched(layer) * bits[0, INPUT])
    rates = (
        8 * hardware.read_bandwidth(outermost) / hardware.clock,
        8 * hardware.write_bandwidth(outermost) / hardware.clock,
    )
    moving = read / rates[0] + kept * written / rates[1]
    if outermost.bandwidth is None:
        moving = max(read / rates[0], kept * written / rates[1])
    cycles = max(least_steps(layer, hardware) / arithmetic.rate + pass_delay(hardware), moving)
    energy = layer.macs * arithmetic.energy
    streams: dict[Operand, tuple[int, float, float]] = {
        "weight": (WEIGHT, layer.weight_count, outermost.energy_per_byte),
        "input": (INPUT, _touched(layer), outermost.energy_per_byte),
        "output": (OUTPUT, layer.output_count, outermost.write_energy),
    }
    for operand, (stream, count, energy_per_byte) in streams.items():
        by_units = _by_units(operand, layer, hardware, bits[:, stream].tolist(), bits[:, PARTIAL].tolist())
        if operand == "output":
            by_units = [each * arithmetic.added for each in by_units]
        least = min(bits[0, stream], bits[0, PARTIAL]) if operand == "output" else bits[0, stream]
        outside = count * least * energy_per_byte / 8
        passing = by_units[0] if by_units[0] > outside else outside  # units may read the outermost itself
        inside = min((outside + each for each in by_units[1:]), default=passing)
        energy += kept * min(passing, inside)
    return Bound(float(cycles), float(energy))


def _by_units(
    operand: Operand, layer: Layer, hardware: Hardware, bits: list[float], partial: list[float]
) -> list[float]:
    """pJ of the accesses of the units to each memory that keeps the operand, the outermost first."""
    found: list[float] = []
    names = [memory.name for memory in hardware.memories]
    for level, memory in enumerate(hardware.memories):
        if operand not in memory.keeps:
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
        elif level == 0:  # an output that begins is not read
            energy = accesses * min(bits[0], partial[0]) * memory.write_energy
            energy += max(accesses - layer.output_count, 0) * partial[0] * memory.energy_per_byte
        else:  # read for each addition, or when it leaves
            energy = accesses * partial[level] * (memory.write_energy + memory.energy_per_byte)
        found.append(energy / 8)
    return found


def _touched(layer: Layer) -> float:
    """Elements of the padded input that the layer reads."""
    rows = Window(layer.stride[0], layer.dilation[0]).rows(float(layer.P), float(layer.R))
    columns = Window(layer.stride[1], layer.dilation[1]).rows(float(layer.Q), float(layer.S))
    return float(layer.N * layer.G * layer.C * rows * columns)
