"""Allocate: where the tiles of each operand lie in each memory, one behind the other from byte 0 on."""

from dataclasses import dataclass

from tersor.hardware.memory import OPERANDS
from tersor.layer import Operand
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import density_of, element_bits
from tersor.targets.accelerator.counts import count
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.legality import places_of, tile_bytes
from tersor.targets.accelerator.nest import Nest, Sizes


@dataclass(frozen=True)
class Region:
    """Room for `places` tiles of an operand from byte `address` of a memory on, each of `pitch` bytes."""

    address: int
    places: int
    pitch: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.address + self.places * self.pitch


def allocate(
    nest: Nest, sizes: Sizes, scheme: Scheme, output_bits: int | None = None
) -> dict[tuple[Operand, int], Region]:
    """Give each operand its region in each memory that keeps it, by the memory's level.

    `sizes` [loops, 1] are those of one mapping, `output_bits` as of `element_bits`. A region is as large as
    the largest tile; sums that may come back before they are complete are as wide as the accumulator. Whether
    all of it fits, `tersor.targets.accelerator.legality` has said.
    """
    bits = element_bits(nest.layer, scheme, nest.hardware, density_of(scheme, DENSE), output_bits)
    sized = tile_bytes(nest, count(nest, sizes), bits)
    regions: dict[tuple[Operand, int], Region] = {}
    for level in range(len(nest.hardware.memories)):
        end = 0
        for operand in OPERANDS:
            if (operand, level) in sized:
                region = Region(end, places_of(nest.hardware, level), int(sized[operand, level][0]))
                regions[operand, level] = region
                end = region.end
    return regions
