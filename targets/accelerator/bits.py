"""Bits: what an element takes in each memory, and which arithmetic a scheme asks for."""

from dataclasses import dataclass, replace

import numpy as np

from tersor.formats.size import stored_bytes
from tersor.hardware import Compute, Hardware
from tersor.layer import Layer, Operand
from tersor.scheme import Scheme
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, STREAMS, WEIGHT
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.tiles import Array
from tersor.weight_format import Integer


@dataclass(frozen=True)
class Factors:
    """Bits of the two factors of a product, and whether they are integers."""

    weight: int
    input: int
    integer: bool

    @classmethod
    def of(cls, scheme: Scheme) -> "Factors":
        """What a scheme multiplies: weights that are no plain integers meet integer inputs as int8 codes."""
        if not (scheme.weight and scheme.input):
            return cls(32, 32, False)
        bits = scheme.weight.bits if isinstance(scheme.weight, Integer) else 8
        return cls(bits, scheme.input.bits, True)

    def unit(self, hardware: Hardware) -> Compute | None:
        """The entry of `compute` that covers them: of integers that of the fewest bits that are enough."""
        if not self.integer:
            return hardware.unit("fp32")
        widest = max(self.weight, self.input)
        covering = [each for each in hardware.compute if each.is_integer and each.bits >= widest]
        return min(covering, key=lambda each: each.bits, default=None)


def density_of(scheme: Scheme, densities: Densities) -> Densities:
    """Give the weight the density of the scheme's pattern, where nothing else is said of it."""
    if scheme.sparsity and densities.weight == 1.0:
        return replace(densities, weight=scheme.sparsity.density)
    return densities


def element_bits(
    layer: Layer, scheme: Scheme, hardware: Hardware, densities: Densities, output_bits: int | None = None
) -> Array:
    """Bits of an element of each stream in each memory, metadata included: [memories, streams].

    Scales of the weight lie in the outermost memory and move with it. Partial sums are dense. Without
    `output_bits`, what reads the output is as wide as the layer's own input.
    """
    accumulator = hardware.datapath.accumulator if hardware.datapath else 32
    # Of each operand: its stream, bits of an element, its density, and elements of a row.
    operands: list[tuple[Operand, int, int, float, int]] = [
        ("weight", WEIGHT, scheme.weight_bits, densities.weight, layer.C * layer.R * layer.S),
        ("input", INPUT, scheme.input_bits, densities.input, layer.C),
        ("output", OUTPUT, output_bits or scheme.input_bits, densities.output, layer.K),
    ]
    bits = np.zeros((len(hardware.memories), len(STREAMS)))
    for level, memory in enumerate(hardware.memories):
        for operand, stream, plain, density, row in operands:
            form = memory.formats.of(operand)
            bits[level, stream] = form.bits(memory.element_bits(plain), density, row)
        bits[level, PARTIAL] = memory.element_bits(accumulator)
    bits[0, WEIGHT] += _scale_bits(layer, scheme)
    return bits


def _scale_bits(layer: Layer, scheme: Scheme) -> float:
    """Bits of scales and tables for each weight."""
    if not layer.weight_bearing or scheme.weight is None:
        return 0.0
    dense = replace(scheme, sparsity=None, factor=None)
    stored = 8 * stored_bytes(layer, dense, bias=False) / layer.weight_count
    return max(0.0, stored - scheme.weight_bits)
