"""Rates: bits that elements take in each memory, the speed of its ports, and how fast units multiply."""

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from tersor.formats.size import stored_bytes
from tersor.hardware import Compute, Hardware, Memory
from tersor.layer import Layer, Operand
from tersor.scheme import Scheme
from tersor.targets.accelerator.simulator.tables import INPUT, OUTPUT, PARTIAL, STREAMS, WEIGHT, Floats
from tersor.weight_format import Integer


@dataclass(frozen=True)
class Arithmetic:
    """What a unit does: products in a cycle, pJ for each, and which factors' zeros it looks at.

    Of its additions to sums it makes the part `made`: a pattern of the weight that is skipped leaves others
    out.
    """

    rate: float
    energy: float
    gates: frozenset[str]
    skips: frozenset[str]
    made: float = 1.0

    @property
    def looks(self) -> frozenset[str]:
        """The factors whose zeros are gated or skipped."""
        return self.gates | self.skips


def arithmetic_of(scheme: Scheme, hardware: Hardware) -> Arithmetic:
    """Find the arithmetic of a scheme. Raises ValueError for one of which the simulator executes nothing."""
    if not (scheme.weight and scheme.input):
        raise ValueError(f"the simulator executes layers with integer weights and inputs, not {scheme}")
    weight = scheme.weight.bits if isinstance(scheme.weight, Integer) else 8
    unit = _unit(max(weight, scheme.input.bits), hardware)
    if unit is None:
        raise ValueError(f"{hardware.name} computes in {', '.join(hardware.precisions)}, not in {scheme}")
    datapath = hardware.datapath
    rate, energy = unit.macs_per_cycle / hardware.units, unit.energy_per_mac
    gates, skips = frozenset[str](), frozenset[str]()
    if datapath is not None:
        rate = datapath.macs(weight, scheme.input.bits)
        gates, skips = frozenset(datapath.gates), frozenset(datapath.skips)
        if datapath.mode in ("bit_serial", "bit_brick"):  # the energy of the parts that are at work
            energy *= datapath.macs(unit.bits, unit.bits) / rate
    if scheme.sparsity in unit.skips:
        assert scheme.sparsity
        density = scheme.sparsity.density
        return Arithmetic(rate / density, energy * density, frozenset(), frozenset(), density)
    return Arithmetic(rate, energy, gates, skips)


def _unit(bits: int, hardware: Hardware) -> Compute | None:
    wide_enough = [each for each in hardware.compute if each.is_integer and each.bits >= bits]
    return min(wide_enough, key=lambda each: each.bits, default=None)


@dataclass(frozen=True, eq=False)
class Rates:
    """What things take.

    `each` are bits of every element and those that one that is not zero adds, [2, memories, streams]; `speed`
    bits in a cycle, of [memories, read or write] and then of `buses_of`; `cycle` the cycles of a step, `fill`
    those of a pass that shifts what is `stationary` through the array. `looks` says whether zeros of weights
    and of inputs are looked at, whether they are skipped, and whether any of that, or of what zeros take,
    matters. Of the additions the part `made` is made.
    """

    each: Floats
    speed: Floats
    cycle: float
    fill: float
    stationary: Operand | None
    looks: tuple[bool, ...]
    made: float


def rates_of(
    layer: Layer,
    scheme: Scheme,
    hardware: Hardware,
    arithmetic: Arithmetic,
    densities: dict[str, float],
    output_bits: int | None = None,
) -> Rates:
    """Give the rates of a machine; `densities` are those of the operands in the outermost memory.

    Without `output_bits` an element of the output is as wide as one of the input.
    """
    each = np.stack(_element_bits(layer, scheme, hardware, densities, output_bits or scheme.input_bits))
    speed = [
        [8 * bandwidth / hardware.clock for bandwidth in both]
        for memory in hardware.memories
        for both in [(hardware.read_bandwidth(memory), hardware.write_bandwidth(memory))]
    ]
    looks = [factor in arithmetic.looks for factor in ("weight", "input")]
    looks += [factor in arithmetic.skips for factor in ("weight", "input")]
    return Rates(
        each,
        np.array([*np.ravel(speed), *(width for _, _, width in buses_of(hardware))]),
        1 / arithmetic.rate,
        _pass(hardware),
        hardware.datapath.stationary if hardware.datapath else None,
        (*looks, any(looks) or bool(each[1].any())),
        arithmetic.made,
    )


def buses_of(hardware: Hardware) -> list[tuple[int, int, float]]:
    """The buses that have a limit: level, stream (`partial` comes back inwards), and bits in a cycle."""
    found: list[tuple[int, int, float]] = []
    for level, memory in enumerate(hardware.memories):
        streams: list[tuple[Operand, np.int64]] = [
            ("weight", WEIGHT), ("input", INPUT), ("output", OUTPUT), ("output", PARTIAL),
        ]  # fmt: skip
        for operand, stream in streams:
            if (width := memory.buses.of(operand)) < inf:
                found.append((level, int(stream), width))
    return found


def _pass(hardware: Hardware) -> float:
    """Cycles in which a pass shifts its first operands in, and its first results out."""
    if hardware.datapath is None:
        return 0.0
    delays = sum(hardware.axis(name).size - 1 for name in hardware.datapath.skew)
    return float(delays + sum(hardware.axis(name).size for name in hardware.datapath.loads))


def _element_bits(
    layer: Layer, scheme: Scheme, hardware: Hardware, densities: dict[str, float], output_bits: int
) -> tuple[Floats, Floats]:
    """Bits of every element, and those that one that is not zero takes more: [memories, streams] each."""
    plain = {"weight": scheme.weight_bits, "input": scheme.input_bits, "output": output_bits}
    rows = {"weight": layer.C * layer.R * layer.S, "input": layer.C, "output": layer.K}
    operands: tuple[Operand, ...] = ("weight", "input", "output")
    each = np.zeros((len(hardware.memories), len(STREAMS)))
    nonzero = np.zeros_like(each)
    accumulator = hardware.datapath.accumulator if hardware.datapath else 32
    for level, memory in enumerate(hardware.memories):
        for stream, operand in enumerate(operands):
            bits = _bits(memory, operand, plain[operand], densities[operand], rows[operand])
            each[level, stream], nonzero[level, stream] = bits
        each[level, PARTIAL] = memory.element_bits(accumulator)
    each[0, WEIGHT] += _scale_bits(layer, scheme)
    assert not nonzero[:, OUTPUT].any()
    return each, nonzero


def _bits(memory: Memory, operand: Operand, bits: int, density: float, row: int) -> tuple[float, float]:
    form, element = memory.formats.of(operand), memory.element_bits(bits)
    if operand == "output":  # whose zeros are not known before they are there
        return form.bits(element, density, row), 0.0
    match form.kind:
        case "bitmask":
            return 1.0, element
        case "csr":
            return form.pointer / row, element + form.metadata
        case "rle" | "coordinate":
            return 0.0, form.bits(element, density) / density if density else 0.0
        case _:
            return form.bits(element, density, row), 0.0


def _scale_bits(layer: Layer, scheme: Scheme) -> float:
    """Bits of scales and tables, which move with the weights, for each of them."""
    if not layer.weight_bearing or scheme.weight is None:
        return 0.0
    dense = stored_bytes(layer, replace(scheme, sparsity=None, factor=None), bias=False)
    return max(0.0, 8 * dense / layer.weight_count - scheme.weight_bits)
