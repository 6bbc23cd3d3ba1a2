"""Allocate: where the tiles of each operand lie in each memory, one behind the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from tersor.hardware.memory import OPERANDS
from tersor.layer import Layer, Operand
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import density_of, element_bits
from tersor.targets.accelerator.counts import INPUT, OUTPUT, WEIGHT, count
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.legality import tile_bytes, tiles_of
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.tiles import Array
from tersor.targets.accelerator.windows import touched


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


SUMS = "sums"


def home_bytes(layer: Layer, operand: Operand, bits: Array) -> int:
    """Bytes of all of an operand, with its padding, in a memory where elements take `bits` [streams]."""
    counts: dict[Operand, tuple[int, int]] = {
        "weight": (layer.weight_count, WEIGHT),
        "input": (touched(layer), INPUT),
        "output": (layer.output_count, OUTPUT),
    }
    elements, stream = counts[operand]
    return ceil(elements * bits[stream] / 8 - 1e-6)


@dataclass(frozen=True)
class Room:
    """What a layer has of a memory that tensors of others stay in: bytes from `begin` up to `end` for tiles.

    `homes` are the addresses there of those of its own operands that stay.
    """

    level: int
    begin: int
    end: int
    homes: Mapping[Operand, int] = field(default_factory=dict)


def allocate(
    nest: Nest, sizes: Sizes, scheme: Scheme, output_bits: int | None = None, room: Room | None = None
) -> dict[tuple[str, int], Region]:
    """Give each operand its region in each memory that keeps it, by the memory's level.

    `sizes` [loops, 1] are those of one mapping, `output_bits` as of `element_bits`. A region is as large as
    the largest tile; sums that may come back before they are complete are as wide as the accumulator. Whether
    all of it fits, `tersor.targets.accelerator.legality` has said. Sums that lie beside outputs that stay
    have a region as `SUMS`. Raises ValueError where it does not fit `room`.
    """
    bits = element_bits(nest.layer, scheme, nest.hardware, density_of(scheme, DENSE), output_bits)
    sized = tile_bytes(nest, count(nest, sizes), bits)
    regions: dict[tuple[str, int], Region] = {}
    for level, memory in enumerate(nest.hardware.memories):
        here = room if room is not None and room.level == level else Room(level, 0, memory.size)
        end = here.begin
        for operand in OPERANDS:
            if (operand, level) not in sized:
                continue
            tiles, size = tiles_of(nest, operand, level), int(sized[operand, level][0])
            if level > 0 and level == nest.home(operand):
                whole = home_bytes(nest.layer, operand, bits[level])
                address = here.homes.get(operand, end)
                regions[operand, level] = Region(address, tiles, whole)
                end += 0 if operand in here.homes else whole
                if size > whole:
                    regions[SUMS, level] = Region(end, 1, size - whole)
                    end += size - whole
                continue
            regions[operand, level] = Region(end, tiles, size)
            end = regions[operand, level].end
        if end > here.end:
            raise ValueError(
                f"the tiles in {memory.name} need {end - here.begin} bytes; beside tensors that stay there "
                f"{here.end - here.begin} are free"
            )
    return regions
