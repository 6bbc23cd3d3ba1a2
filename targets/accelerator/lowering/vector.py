"""Lower a vector operator: its tensors stream through a memory on the chip, some rows or channels at a time.

loop G 4 step 16
  load input dram -> sram at ..., G 16 P 56 Q 56 R 3 S 3, wait free input@sram, give full input@sram
  begin output dram -> sram at ..., G 16 P 56 Q 56, wait free output@sram, give full output@sram
  apply at sram, G 16 P 56 Q 56, wait full input@sram full output@sram
  sync, give free input@sram
  store output sram -> dram at ..., G 16 P 56 Q 56, give free output@sram
end

A tensor that stays in that memory is neither loaded nor stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from tersor.hardware import Hardware
from tersor.layer import Dim, Layer, Operand
from tersor.targets.accelerator.isa.instruction import (
    Apply,
    End,
    Extents,
    Instruction,
    Load,
    Loop,
    Store,
    Sync,
    Token,
    extents_of,
)
from tersor.targets.accelerator.isa.program import Home, VectorProgram, digest_of
from tersor.targets.accelerator.isa.vector import Add, Shape, VectorOperator, loop_nest
from tersor.targets.accelerator.legality import places_of
from tersor.targets.accelerator.lowering.allocate import Region, Room
from tersor.targets.accelerator.windows import Window

_BITS = 8  # of a code
# Nothing overlaps with the first tile's coming and the last one's leaving: there are about so many.
_TILES = 16


def lower_vector(
    name: str, operator: VectorOperator, shape: Shape, hardware: Hardware, room: Room | None = None
) -> VectorProgram:
    """Give the program of `operator` on an input (or two) of `shape` [N, C, H, W], in `room` if given.

    Tiles are whole channels, or whole rows of one channel. Raises ValueError with the reason of
    `why_no_vector`.
    """
    if reason := why_no_vector(name, operator, shape, hardware, room):
        raise ValueError(reason)
    level = vector_level(hardware)
    assert level is not None  # why_no_vector has looked
    streams = _Streams(
        loop_nest(name, operator, shape), operator, hardware, level, _room(hardware, level, room)
    )
    return VectorProgram(
        hardware.name,
        digest_of(hardware),
        streams.layer,
        operator,
        tuple(streams.instructions(streams.largest_tile())),
        tuple(streams.homes()),
    )


def why_no_vector(
    name: str, operator: VectorOperator, shape: Shape, hardware: Hardware, room: Room | None = None
) -> str | None:
    """Say why `hardware` cannot stream the operator's tensors through a memory, or None if it can."""
    outermost, level = hardware.memories[0], vector_level(hardware)
    if level is None:
        return f"{hardware.name} has no memory beside {outermost.name} that keeps the input and the output"
    try:
        layer = loop_nest(name, operator, shape)
    except ValueError as error:
        return str(error)
    whole = _Streams(layer, operator, hardware, 0, _room(hardware, 0, None)).needed(
        _Tile(layer.N, layer.G, layer.P)
    )
    if whole > outermost.size:
        return f"the tensors of {name} need {whole} bytes in {outermost.name}; it has {outermost.size}"
    streams = _Streams(layer, operator, hardware, level, _room(hardware, level, room))
    row, memory = streams.needed(_Tile(1, 1, 1)), hardware.memories[level].name
    if row > streams.free:
        twice = ", two of each as it is double buffered" if places_of(hardware, level) == 2 else ""
        return f"the rows of {name} need {row} bytes in {memory}{twice}; it has {streams.free}"
    return None


def _room(hardware: Hardware, level: int, room: Room | None) -> Room:
    return room or Room(level, 0, hardware.memories[level].size)


@dataclass(frozen=True)
class _Tile:
    """Outputs that are made at a time: of `samples`, `channels`, `rows` and all columns."""

    samples: int
    channels: int
    rows: int


def whole_bytes(operator: VectorOperator, shape: Shape, hardware: Hardware, level: int) -> dict[Operand, int]:
    """Bytes of an operator's whole tensors in a memory, the input with its padding."""
    layer = loop_nest("", operator, shape)
    streams = _Streams(layer, operator, hardware, level, _room(hardware, level, None))
    return streams.bytes_of(_Tile(layer.N, layer.G, layer.P))


def vector_level(hardware: Hardware) -> int | None:
    """The outermost memory on the chip that tensors can stream through, or stay in."""
    for level, memory in enumerate(hardware.memories):
        if level and {"input", "output"} <= set(memory.keeps):
            return level
    return None


@dataclass(frozen=True)
class _Streams:
    """The tensors of an operator in the memory `level`, of which it has `room`."""

    layer: Layer
    operator: VectorOperator
    hardware: Hardware
    level: int
    room: Room

    @property
    def free(self) -> int:
        """Bytes for tiles."""
        return self.room.end - self.room.begin

    def homes(self) -> Iterator[Home]:
        """What stays, all of it."""
        whole = self.bytes_of(_Tile(self.layer.N, self.layer.G, self.layer.P))
        for operand, address in self.room.homes.items():
            yield Home(operand, self.level, address, whole[operand])

    def needed(self, tile: _Tile) -> int:
        """Bytes of the tiles that come and go."""
        return max((region.end for region in self._regions(tile).values()), default=self.room.begin) - (
            self.room.begin
        )

    def largest_tile(self) -> _Tile:
        """The largest tile that fits, of those that leave enough to overlap with."""
        layer = self.layer

        def fits(tile: _Tile) -> bool:
            return self.needed(tile) <= self.free

        planes, rows = ceil(layer.G / ceil(_TILES / layer.N)), ceil(layer.P * layer.N * layer.G / _TILES)
        if layer.N * layer.G >= _TILES and fits(_Tile(1, 1, layer.P)):
            channels = range(planes, 0, -1)
            return next(tile for each in channels if fits(tile := _Tile(1, each, layer.P)))
        heights = range(min(rows, layer.P), 0, -1)
        return next(tile for each in heights if fits(tile := _Tile(1, 1, each)))

    def instructions(self, tile: _Tile) -> Iterator[Instruction]:
        """The program for tiles of that size."""
        layer, level, extents, regions = self.layer, self.level, self._extents(tile), self._regions(tile)
        steps: tuple[tuple[Dim, int], ...] = (("N", tile.samples), ("G", tile.channels), ("P", tile.rows))
        loops = [
            Loop(dim, ceil(layer.size(dim) / step), step) for dim, step in steps if layer.size(dim) > step
        ]
        yield from loops
        for operand, region in regions.items():
            yield Load(
                operand,
                0,
                level,
                extents[operand],
                region.address,
                region.places,
                region.pitch,
                waits=(Token("free", operand, level),),
                signals=(Token("full", operand, level),),
            )
        yield Apply(level, extents["output"], tuple(Token("full", operand, level) for operand in regions))
        if free := tuple(Token("free", operand, level) for operand in self._inputs if operand in regions):
            yield Sync(free)
        if out := regions.get("output"):
            given = (Token("free", "output", level),)
            yield Store(level, 0, extents["output"], out.address, out.places, out.pitch, signals=given)
        yield from (End() for _ in loops)

    @property
    def _inputs(self) -> tuple[Operand, ...]:
        return ("weight", "input") if isinstance(self.operator, Add) else ("input",)

    def _extents(self, tile: _Tile) -> dict[Operand, Extents]:
        box = {"N": tile.samples, "G": tile.channels, "P": tile.rows, "Q": self.layer.Q}
        made: dict[Operand, Extents] = {o: extents_of(**box) for o in (*self._inputs, "output")}
        made["input"] = extents_of(**box, R=self.layer.R, S=self.layer.S)
        return made

    def bytes_of(self, tile: _Tile) -> dict[Operand, int]:
        """Bytes of one tile of each operand."""
        layer = self.layer
        outputs = tile.samples * tile.channels * tile.rows * layer.Q
        touched = Window(layer.stride[0], 1).rows(tile.rows, layer.R)
        touched *= Window(layer.stride[1], 1).rows(layer.Q, layer.S)
        elements: dict[Operand, int] = {"weight": outputs, "output": outputs}
        elements["input"] = tile.samples * tile.channels * int(touched)
        bits = self.hardware.memories[self.level].element_bits(_BITS)
        return {operand: ceil(each * bits / 8 - 1e-6) for operand, each in elements.items()}

    def _regions(self, tile: _Tile) -> dict[Operand, Region]:
        """Where the tiles that come and go lie, one operand behind the other."""
        sizes, places = self.bytes_of(tile), places_of(self.hardware, self.level)
        regions: dict[Operand, Region] = {}
        end = self.room.begin
        for operand in (*self._inputs, "output"):
            if operand not in self.room.homes:
                regions[operand] = Region(end, places, sizes[operand])
                end = regions[operand].end
        return regions
