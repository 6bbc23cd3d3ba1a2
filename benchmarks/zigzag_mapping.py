"""Mappings in ZigZag's form and in ours.

ZigZag has one order of all loops in time, and says for each operand alone how many of them each of its
memories holds; a loop on an axis belongs to no memory. Ours places each loop at a memory, and says of each
tile how many loops of that memory are outside of it. A tile may begin anywhere among neighbouring loops that
do not walk over its operand: it is fetched as often. So most mappings of either have a twin in the other.
"""

from dataclasses import dataclass, replace
from math import ceil, prod

from tersor.hardware import Hardware
from tersor.hardware.memory import OPERANDS
from tersor.layer import INDEXED_BY, Dim, Layer, Operand
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.legality import why_not

TimedLoop = tuple[Dim, int]


@dataclass(frozen=True)
class ZigZagMapping:
    """`spatial` are loops by axis; `order` those in time, the outermost first.

    `outside` says how many of `order` are outside of the tile of an operand in a memory, by its name.
    """

    spatial: dict[str, tuple[TimedLoop, ...]]
    order: tuple[TimedLoop, ...]
    outside: dict[Operand, dict[str, int]]

    def levels(self, operand: Operand, hardware: Hardware) -> list[list[TimedLoop]]:
        """The loops that each memory holds for `operand`, from the innermost memory and loop."""
        names = [memory.name for memory in hardware.memories if operand in memory.keeps]
        starts = [self.outside[operand][name] for name in names]
        ends = [*starts[1:], len(self.order)]
        held = [list(self.order[start:end]) for start, end in zip(starts, ends, strict=True)]
        return [loops[::-1] for loops in reversed(held)]

    def padded(self, layer: Layer) -> dict[Dim, int]:
        """Sizes of the dimensions for ZigZag, which has ragged tiles on units but none in time.

        A dimension that loops in time cut into more parts than needed is as long as all its loops make it.
        """
        sizes: dict[Dim, int] = {}
        for dim in INDEXED_BY["input"] | INDEXED_BY["weight"]:
            spread = prod(size for loops in self.spatial.values() for each, size in loops if each == dim)
            turns = prod(size for each, size in self.order if each == dim)
            size = layer.size(dim)
            sizes[dim] = size if turns == ceil(size / spread) else turns * spread  # type: ignore[index]
        return sizes


def from_zigzag(found: ZigZagMapping, hardware: Hardware) -> Mapping:
    """The mapping in our form. Raises ValueError if a memory would have to be inside of what it contains."""
    begin = {hardware.memories[0].name: 0}
    places: dict[tuple[Operand, str], int] = {}
    floor = 0
    for level, memory in enumerate(hardware.memories):
        begin[memory.name] = floor if level else 0
        for operand in memory.keeps:
            first, last = _equal_places(found, operand, found.outside[operand][memory.name])
            place = 0 if level == 0 else max(first, begin[memory.name])
            if place > last:
                raise ValueError(f"the tile of the {operand} in {memory.name} contains a loop outside of it")
            places[operand, memory.name] = place
            floor = max(floor, place)
        inner = [
            _equal_places(found, operand, found.outside[operand][each.name])[1]
            for each in hardware.memories[level + 1 :]
            for operand in each.keeps
        ]
        floor = max(floor, min(inner, default=floor))
    starts = [begin[memory.name] for memory in hardware.memories]
    loops: list[Loop] = []
    for memory, start, end in zip(hardware.memories, starts, [*starts[1:], len(found.order)], strict=True):
        loops += [Loop(dim, size, memory.name) for dim, size in found.order[start:end]]
        for axis in hardware.axes:
            if axis.inside == memory.name:
                loops += [Loop(dim, size, axis.name) for dim, size in found.spatial.get(axis.name, ())]
    keep = tuple(
        Keep(operand, memory.name, places[operand, memory.name] - begin[memory.name])
        for memory in hardware.memories
        for operand in memory.keeps
    )
    return Mapping(tuple(loops), keep)


def to_zigzag(mapping: Mapping, layer: Layer, hardware: Hardware) -> ZigZagMapping:
    """The mapping in ZigZag's form. No memory is passed by there: one that we pass by holds what it can."""
    mapping = _kept_everywhere(mapping, layer, hardware)
    axes = [axis.name for axis in hardware.axes]
    spatial: dict[str, tuple[TimedLoop, ...]] = {
        name: tuple((loop.dim, loop.size) for loop in mapping.loops if loop.at == name) for name in axes
    }
    in_time = [loop for loop in mapping.loops if loop.at not in axes]
    places = [memory.name for memory in hardware.memories]
    outside: dict[Operand, dict[str, int]] = {operand: {} for operand in OPERANDS}
    for keep in mapping.keep:
        around = places[: places.index(keep.at)]
        outside[keep.operand][keep.at] = sum(loop.at in around for loop in in_time) + keep.inside
    return ZigZagMapping(spatial, tuple((loop.dim, loop.size) for loop in in_time), outside)


def _kept_everywhere(mapping: Mapping, layer: Layer, hardware: Hardware) -> Mapping:
    """Give each memory that is passed by the largest tile that fits.

    Raises ValueError if a memory has no room for any.
    """
    for memory in reversed(hardware.memories):
        for operand in memory.keeps:
            if any((keep.operand, keep.at) == (operand, memory.name) for keep in mapping.keep):
                continue
            loops = sum(loop.at == memory.name for loop in mapping.loops)
            more = (
                replace(mapping, keep=(*mapping.keep, Keep(operand, memory.name, inside)))
                for inside in range(loops + 1)
            )
            found = next((each for each in more if why_not(layer, INT8, each, hardware) is None), None)
            if found is None:
                raise ValueError(f"{memory.name} has no room for the {operand} of {layer.name}")
            mapping = found
    return mapping


def _equal_places(found: ZigZagMapping, operand: Operand, place: int) -> tuple[int, int]:
    """The outermost and the innermost place where a tile could begin and be fetched as often."""
    first = last = place
    while first > 0 and found.order[first - 1][0] not in INDEXED_BY[operand]:
        first -= 1
    while last < len(found.order) and found.order[last][0] not in INDEXED_BY[operand]:
        last += 1
    return first, last
