"""Legality: why a machine cannot run a layer under a scheme, or walk over it as a mapping says."""

import numpy as np
from numpy.typing import NDArray

from tersor.hardware import Hardware
from tersor.layer import Layer, Operand
from tersor.loop_tree import why_misplaced
from tersor.mapping import Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import Factors, density_of, element_bits
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT, Counts, count
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.tiles import Array, Tiles
from tersor.targets.accelerator.volumes import largest_tile

_STREAM: dict[Operand, int] = {"weight": WEIGHT, "input": INPUT, "output": OUTPUT}


def why_no_layer(layer: Layer, scheme: Scheme, hardware: Hardware) -> str | None:
    """Say why `hardware` has no arithmetic for `layer` under `scheme`, or None if it has."""
    if layer.operator not in hardware.operators:
        return f"{hardware.name} runs {', '.join(hardware.operators)}, not {layer.operator}"
    if layer.operator == "gather":
        return f"{layer.name} looks rows up and multiplies nothing; it has no loops to map"
    if scheme.factor:
        return f"{scheme.factor} makes several layers of {layer.name}; map each of them"
    factors = Factors.of(scheme)
    if factors.unit(hardware) is None:
        return f"{hardware.name} computes in {', '.join(hardware.precisions)}, not in {scheme}"
    if factors.integer and hardware.datapath:
        return hardware.datapath.why_not(factors.weight, factors.input)
    return None


def why_not(
    layer: Layer,
    scheme: Scheme,
    mapping: Mapping,
    hardware: Hardware,
    densities: Densities = DENSE,
    output_bits: int | None = None,
) -> str | None:
    """Say why `hardware` cannot run `layer` under `scheme` as `mapping` says, or None if it can.

    `output_bits` as of `element_bits`.
    """
    reason = (
        why_no_layer(layer, scheme, hardware) or why_misplaced(mapping, hardware) or mapping.why_not(layer)
    )
    if reason:
        return reason
    nest, sizes = Nest.of(mapping, layer, hardware)
    if layer.weight_bearing and nest.home("weight") > 0:
        outermost = hardware.memories[0].name
        return f"the weight of {layer.name} is stored in {outermost}; keep weight@{outermost}"
    bits = element_bits(layer, scheme, hardware, density_of(scheme, densities), output_bits)
    needed = needed_bytes(nest, count(nest, sizes), bits)
    for level, memory in enumerate(hardware.memories):
        if needed[level, 0] > memory.size:
            twice = ", two of each as it is double buffered" if places_of(hardware, level) == 2 else ""
            return (
                f"the tiles in {memory.name} need {needed[level, 0]:.0f} bytes{twice}; it has {memory.size}"
            )
    return None


def needed_bytes(nest: Nest, counts: Counts, bits: Array) -> Array:
    """Bytes that the tiles take in each memory: [memories, mappings]."""
    needed = np.zeros((len(nest.hardware.memories), counts.steps.size))
    for (operand, level), each in tile_bytes(nest, counts, bits).items():
        needed[level] += each * tiles_of(nest, operand, level)
    return needed


def tile_bytes(nest: Nest, counts: Counts, bits: Array) -> dict[tuple[Operand, int], Array]:
    """Whole bytes of the largest tile of each operand at each level; sums that may come back are wide.

    Where outputs stay on the chip, such sums lie beside them until they are complete.
    """
    found: dict[tuple[Operand, int], Array] = {}
    for (operand, level), elements in counts.tiles.items():
        plain = _whole_bytes(elements * bits[level, _STREAM[operand]])
        if operand == "output":
            wide = _whole_bytes(elements * bits[level, PARTIAL])
            stays = level > 0 and level == nest.home("output")
            plain = np.where(counts.writes[level, PARTIAL] > 0, wide + plain * stays, plain)
        found[operand, level] = plain
    return found


def _whole_bytes(bits: Array) -> Array:
    # Elements may take fractions of bits, of which a multiple is a whole number but for its rounding.
    return np.ceil(bits / 8 - 1e-6)


def least_bytes(nest: Nest, sizes: Sizes, bits: Array) -> Array:
    """At least so many bytes are needed, found without counting: as if no sum came back."""
    tiles = Tiles(nest, sizes)
    needed = np.zeros((len(nest.hardware.memories), sizes.shape[1]))
    for operand, stream in _STREAM.items():
        for level in nest.levels(operand):
            each = (
                min(bits[level, stream], bits[level, PARTIAL]) if operand == "output" else bits[level, stream]
            )
            needed[level] += (
                largest_tile(nest, tiles, operand, level) * each / 8 * tiles_of(nest, operand, level)
            )
    return needed


def fits(nest: Nest, needed: Array) -> NDArray[np.bool_]:
    """Mark the mappings whose tiles fit every memory."""
    sizes = np.array([memory.size for memory in nest.hardware.memories], np.float64)
    return np.logical_and.reduce(needed <= sizes[:, None], axis=0)


def tiles_of(nest: Nest, operand: Operand, level: int) -> int:
    """Tiles of an operand that a memory holds; its home has all of it, once."""
    return 1 if level == nest.home(operand) else places_of(nest.hardware, level)


def places_of(hardware: Hardware, level: int) -> int:
    """Tiles of each operand that a memory holds of what comes from further outside."""
    return 2 if level > 0 and hardware.memories[level].double_buffered else 1
