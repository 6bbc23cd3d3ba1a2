"""Lower: the program of a mapped layer, loop by loop and tile by tile.

    dram: weight, input, output             loop K 4 step 16
      for K in 4                              load weight dram -> sram at 0 x1 pitch 16, K 16, ...
        sram: weight, output          ->      begin output dram -> sram at 16 x1 pitch 64, K 16, ...
          for K in 16                         loop K 16 step 1
                                                compute, wait full weight@sram full output@sram
                                              end
                                              sync, give free weight@sram
                                              store output sram -> dram at 16 x1 pitch 64, K 16, ...
                                            end

A tile is fetched just inside the innermost loop in time that walks over its operand, and given back at the
end of that loop's body. The program is as long as the tree: nothing is unrolled, whatever the sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from tersor.hardware import Hardware
from tersor.hardware.memory import OPERANDS
from tersor.layer import DIMS, INDEXED_BY, Layer, Operand
from tersor.mapping import Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.epilogue import Epilogue, Requantize, Sums
from tersor.targets.accelerator.isa.instruction import (
    MOST_TOKENS,
    Compute,
    End,
    Extents,
    Instruction,
    Load,
    Loop,
    Spread,
    Store,
    Sync,
    Token,
)
from tersor.targets.accelerator.isa.program import Home, Program, digest_of
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.lowering.allocate import SUMS, Region, Room, allocate
from tersor.targets.accelerator.nest import REDUCTION, Nest


def lower(
    layer: Layer,
    scheme: Scheme,
    mapping: Mapping,
    hardware: Hardware,
    epilogue: Epilogue = Sums(),  # noqa: B008  # frozen: one for all calls is as good as one for each
    room: Room | None = None,
) -> Program:
    """Give the program by which `hardware` runs `layer` under `scheme` as `mapping` says, in `room` if given.

    Raises ValueError with `legality.why_not`'s reason: what the machine does not compute, loops that do not
    cover the layer or are out of place, tiles that do not fit a memory.
    """
    bits = epilogue.bits if isinstance(epilogue, Requantize) else None
    if reason := why_not(layer, scheme, mapping, hardware, output_bits=bits):
        raise ValueError(reason)
    lowering = _Lowering(layer, scheme, mapping, hardware, bits, room)
    instructions = tuple(lowering.instructions())
    return Program(
        hardware.name, digest_of(hardware), layer, scheme, instructions, epilogue, tuple(lowering.homes())
    )


@dataclass(frozen=True)
class _Tile:
    """The tiles of an operand at a memory; `place` loops are outside of the body that each stays for.

    `parent` is the next outer memory that keeps the operand, perhaps its home.
    """

    operand: Operand
    level: int
    parent: int
    place: int
    extents: Extents
    region: Region
    at_home: bool  # whether the parent is the home

    @property
    def free(self) -> Token:
        return Token("free", self.operand, self.level)

    @property
    def full(self) -> Token:
        return Token("full", self.operand, self.level)

    @property
    def at_parent(self) -> tuple[Token, ...]:
        """The tile of the parent that this one is a part of; the home has all at all times."""
        return () if self.at_home else (Token("full", self.operand, self.parent),)


class _Lowering:
    """One run of `lower`."""

    def __init__(
        self,
        layer: Layer,
        scheme: Scheme,
        mapping: Mapping,
        hardware: Hardware,
        output_bits: int | None,
        room: Room | None,
    ) -> None:
        self.layer = layer
        self.hardware = hardware
        self.loops = mapping.loops
        self.nest, sizes = Nest.of(mapping, layer, hardware)
        self.regions = allocate(self.nest, sizes, scheme, output_bits, room)
        self.tiles = [self._tile(o, parent, level) for o in OPERANDS for parent, level in self._levels(o)]

    def homes(self) -> Iterator[Home]:
        """Where operands lie that begin or end on the chip."""
        for operand in OPERANDS:
            if level := self.nest.home(operand):
                region, sums = self.regions[operand, level], None
                if operand == "output" and (SUMS, level) in self.regions:
                    sums = self.regions[SUMS, level].address
                yield Home(operand, level, region.address, region.pitch, sums)

    def instructions(self) -> Iterator[Instruction]:
        axes = [axis.name for axis in self.hardware.axes]
        for place, loop in enumerate(self.loops):
            if loop.at in axes and loop.size > 1:
                yield Spread(axes.index(loop.at), loop.dim, loop.size, self._step(place))
        in_time = [place for place in range(len(self.loops)) if self._repeats(place)]
        yield from self._begin(0)
        for place in in_time:
            yield Loop(self.loops[place].dim, self.loops[place].size, self._step(place))
            yield from self._begin(place + 1)
        yield Compute(tuple(tile.full for tile in self._innermost()))
        for place in reversed(in_time):
            yield from self._end(place + 1)
            yield End()
        yield from self._end(0)

    def _begin(self, place: int) -> Iterator[Load]:
        """Fetch the tiles that stay from here on, from the outermost memory inwards."""
        for tile in sorted((t for t in self.tiles if t.place == place), key=lambda tile: tile.level):
            yield Load(
                tile.operand,
                tile.parent,
                tile.level,
                tile.extents,
                tile.region.address,
                tile.region.places,
                tile.region.pitch,
                slides=self._slides(tile),
                restore=tile.operand == "output" and self._come_back(tile),
                waits=(tile.free, *tile.at_parent),
                signals=(tile.full,),
            )

    def _end(self, place: int) -> Iterator[Store | Sync]:
        """Give the tiles back that stay up to here, and send sums on, from the innermost memory outwards.

        Factors come first: their next tiles may then come while sums leave.
        """
        here = sorted((t for t in self.tiles if t.place == place), key=lambda tile: -tile.level)
        free = [tile.free for tile in here if tile.operand != "output"]
        for first in range(0, len(free), MOST_TOKENS):
            yield Sync(tuple(free[first : first + MOST_TOKENS]))
        for tile in here:
            if tile.operand == "output":
                yield Store(
                    tile.level,
                    tile.parent,
                    tile.extents,
                    tile.region.address,
                    tile.region.places,
                    tile.region.pitch,
                    waits=tile.at_parent,
                    signals=(tile.free,),
                )

    def _innermost(self) -> Iterator[_Tile]:
        """Of each operand the tile that the units read or add to, unless that is the whole tensor."""
        for operand in OPERANDS:
            if tiles := [tile for tile in self.tiles if tile.operand == operand]:
                yield max(tiles, key=lambda tile: tile.level)

    def _levels(self, operand: Operand) -> list[tuple[int, int]]:
        """The memories that keep the operand, each behind the one that it comes from."""
        levels = self.nest.levels(operand)
        return list(pairwise(levels))

    def _tile(self, operand: Operand, parent: int, level: int) -> _Tile:
        position = self.nest.position(operand, level)
        walking = [p for p in range(position) if self._repeats(p) and self.nest.indexes(p, operand)]
        extents = tuple(self._extent(d, position) if d in INDEXED_BY[operand] else 1 for d in DIMS)
        place = max(walking, default=-1) + 1
        at_home = parent == self.nest.home(operand)
        return _Tile(operand, level, parent, place, extents, self.regions[operand, level], at_home)

    def _extent(self, dim: str, position: int) -> int:
        inside = prod(loop.size for loop in self.loops[position:] if loop.dim == dim)
        return min(inside, self.layer.size(dim))

    def _step(self, place: int) -> int:
        dim = self.loops[place].dim
        return prod(loop.size for loop in self.loops[place + 1 :] if loop.dim == dim)

    def _repeats(self, place: int) -> bool:
        return self.nest.axes[place] is None and self.loops[place].size > 1

    def _come_back(self, tile: _Tile) -> bool:
        """Whether sums may leave before they are complete: a loop outside of their stay adds to them."""
        return any(self._repeats(p) and self.loops[p].dim in REDUCTION for p in range(tile.place))

    def _slides(self, tile: _Tile) -> bool:
        """Whether a tile keeps what it shares with the one before: see `counts`, the second rule."""
        if tile.operand != "input" or tile.place == 0 or not self.hardware.memories[tile.level].halo_reuse:
            return False
        dim = self.loops[tile.place - 1].dim
        between = self.loops[tile.place : self.nest.position(tile.operand, tile.level)]
        return dim in ("P", "Q") and all(loop.dim != dim or loop.size == 1 for loop in between)
