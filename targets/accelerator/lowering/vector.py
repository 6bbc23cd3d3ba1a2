"""Lower a vector operator: its tensors stream through a memory on the chip, some rows or channels at a time.

loop G 4 step 16
  load input dram -> sram at ..., G 16 P 56 Q 56 R 3 S 3, wait free input@sram, give full input@sram
  begin output dram -> sram at ..., G 16 P 56 Q 56, wait free output@sram, give full output@sram
  apply at sram, G 16 P 56 Q 56, wait full input@sram full output@sram
  sync, give free input@sram
  store output sram -> dram at ..., G 16 P 56 Q 56, give free output@sram
end
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
from tersor.targets.accelerator.isa.program import VectorProgram, digest_of
from tersor.targets.accelerator.isa.vector import Add, Shape, VectorOperator, loop_nest
from tersor.targets.accelerator.legality import places_of
from tersor.targets.accelerator.lowering.allocate import Region
from tersor.targets.accelerator.windows import Window

_BITS = 8  # of a code
# Nothing overlaps with the first tile's coming and the last one's leaving: there are about so many.
_TILES = 16


def lower_vector(name: str, operator: VectorOperator, shape: Shape, hardware: Hardware) -> VectorProgram:
    """Give the program of `operator` on an input (or two) of `shape` [N, C, H, W].

    Tiles are whole channels, or whole rows of one channel. Raises ValueError with the reason of
    `why_no_vector`.
    """
    if reason := why_no_vector(name, operator, shape, hardware):
        raise ValueError(reason)
    layer = loop_nest(name, operator, shape)
    level = _level(hardware)
    assert level is not None  # why_no_vector has looked
    tile = _largest_tile(layer, operator, hardware, level)
    instructions = tuple(_instructions(layer, operator, hardware, level, tile))
    return VectorProgram(hardware.name, digest_of(hardware), layer, operator, instructions)


def why_no_vector(name: str, operator: VectorOperator, shape: Shape, hardware: Hardware) -> str | None:
    """Say why `hardware` cannot stream the operator's tensors through a memory, or None if it can."""
    outermost, level = hardware.memories[0], _level(hardware)
    if level is None:
        return f"{hardware.name} has no memory beside {outermost.name} that keeps the input and the output"
    try:
        layer = loop_nest(name, operator, shape)
    except ValueError as error:
        return str(error)
    whole = _needed(layer, operator, hardware, 0, _Tile(layer.N, layer.G, layer.P))
    if whole > outermost.size:
        return f"the tensors of {name} need {whole} bytes in {outermost.name}; it has {outermost.size}"
    memory, row = hardware.memories[level], _needed(layer, operator, hardware, level, _Tile(1, 1, 1))
    if row > memory.size:
        twice = ", two of each as it is double buffered" if places_of(hardware, level) == 2 else ""
        return f"the rows of {name} need {row} bytes in {memory.name}{twice}; it has {memory.size}"
    return None


@dataclass(frozen=True)
class _Tile:
    """Outputs that are made at a time: of `samples`, `channels`, `rows` and all columns."""

    samples: int
    channels: int
    rows: int


def _level(hardware: Hardware) -> int | None:
    """The outermost memory on the chip that the tensors can stream through."""
    for level, memory in enumerate(hardware.memories):
        if level and {"input", "output"} <= set(memory.keeps):
            return level
    return None


def _largest_tile(layer: Layer, operator: VectorOperator, hardware: Hardware, level: int) -> _Tile:
    """The largest tile that fits, of those that leave enough to overlap with."""

    def fits(tile: _Tile) -> bool:
        return _needed(layer, operator, hardware, level, tile) <= hardware.memories[level].size

    planes, rows = ceil(layer.G / ceil(_TILES / layer.N)), ceil(layer.P * layer.N * layer.G / _TILES)
    if layer.N * layer.G >= _TILES and fits(_Tile(1, 1, layer.P)):
        channels = range(planes, 0, -1)
        return next(tile for each in channels if fits(tile := _Tile(1, each, layer.P)))
    heights = range(min(rows, layer.P), 0, -1)
    return next(tile for each in heights if fits(tile := _Tile(1, 1, each)))


def _inputs(operator: VectorOperator) -> tuple[Operand, ...]:
    return ("weight", "input") if isinstance(operator, Add) else ("input",)


def _extents(layer: Layer, operator: VectorOperator, tile: _Tile) -> dict[Operand, Extents]:
    box = {"N": tile.samples, "G": tile.channels, "P": tile.rows, "Q": layer.Q}
    made: dict[Operand, Extents] = {operand: extents_of(**box) for operand in (*_inputs(operator), "output")}
    made["input"] = extents_of(**box, R=layer.R, S=layer.S)
    return made


def _regions(
    layer: Layer, operator: VectorOperator, hardware: Hardware, level: int, tile: _Tile
) -> dict[Operand, Region]:
    """Where the tiles lie at `level`, one operand behind the other."""
    outputs = tile.samples * tile.channels * tile.rows * layer.Q
    touched = Window(layer.stride[0], 1).rows(tile.rows, layer.R)
    touched *= Window(layer.stride[1], 1).rows(layer.Q, layer.S)
    elements: dict[Operand, int] = {"weight": outputs, "output": outputs}
    elements["input"] = tile.samples * tile.channels * int(touched)
    bits, places = hardware.memories[level].element_bits(_BITS), places_of(hardware, level)
    regions: dict[Operand, Region] = {}
    end = 0
    for operand in (*_inputs(operator), "output"):
        regions[operand] = Region(end, places, ceil(elements[operand] * bits / 8 - 1e-6))
        end = regions[operand].end
    return regions


def _needed(layer: Layer, operator: VectorOperator, hardware: Hardware, level: int, tile: _Tile) -> int:
    return max(region.end for region in _regions(layer, operator, hardware, level, tile).values())


def _instructions(
    layer: Layer, operator: VectorOperator, hardware: Hardware, level: int, tile: _Tile
) -> Iterator[Instruction]:
    extents = _extents(layer, operator, tile)
    regions = _regions(layer, operator, hardware, level, tile)
    steps: tuple[tuple[Dim, int], ...] = (("N", tile.samples), ("G", tile.channels), ("P", tile.rows))
    loops = [Loop(dim, ceil(layer.size(dim) / step), step) for dim, step in steps if layer.size(dim) > step]
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
    yield Sync(tuple(Token("free", operand, level) for operand in _inputs(operator)))
    out = regions["output"]
    given = (Token("free", "output", level),)
    yield Store(level, 0, extents["output"], out.address, out.places, out.pitch, signals=given)
    yield from (End() for _ in loops)
