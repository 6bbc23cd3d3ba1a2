"""Moves: the cycles that each transfer of a mapped layer takes of each port, and those of the steps.

What a transfer moves depends on where it is: at the edges of the layer tiles are smaller, sums that begin are
not fetched, and those that are complete are narrower.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, pairwise

import numpy as np

from tersor.hardware.memory import OPERANDS
from tersor.layer import DIMS, Operand
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT
from tersor.targets.accelerator.nest import REDUCTION, Nest, Sizes
from tersor.targets.accelerator.schedule.ledger import Needs
from tersor.targets.accelerator.schedule.ports import BACK, Ports
from tersor.targets.accelerator.tiles import Array, Flag
from tersor.targets.accelerator.volumes import Spread, Volumes, first_unit

Extents = tuple[int, ...]  # iterations over each of `DIMS`
_STREAM: dict[Operand, int] = {"weight": WEIGHT, "input": INPUT}


@dataclass(frozen=True)
class Tile:
    """The tiles of an operand at a level; each stays for the body inside of `place` loops in time.

    They come from `parent`, a level, which numbers them `outer` if it is not the outermost memory, and the
    units read them or add to them if they are `innermost`. Along the loop just outside they may slide.
    """

    operand: Operand
    level: int
    parent: int
    outer: int | None
    place: int
    innermost: bool
    slides: bool


@dataclass(frozen=True)
class Spot:
    """Where a body is among those of its loops: how much of the layer is left for it, by dimension.

    `again` says whether a body before it has added to the same sums, `last` whether no other one will, and
    `next_` whether it is not the first one of the loop just outside.
    """

    left: Extents
    again: bool = False
    last: bool = True
    next_: bool = False


@dataclass(frozen=True)
class Steps:
    """The steps of a body without transfers: their cycles, and those in which they use each port.

    Of the cycles, steps wait for the ports of a memory in some: `waiting` [memories].
    """

    cycles: float
    used: Array
    waiting: Array


@dataclass(frozen=True)
class _Part:
    """Some of the steps of a body: the sums that they read, that they write, and those of them complete."""

    steps: float
    back: float
    written: float
    complete: float


class Moves:
    """The transfers of one mapping, `sizes` [loops] of a nest.

    `bits` [memories, streams] are those of an element, `kept` [streams] the part of their accesses that the
    units make, `cycles` those of a step.
    """

    def __init__(self, nest: Nest, sizes: Sizes, bits: Array, kept: Array, cycles: float) -> None:
        self.nest, self.sizes = nest, sizes
        self._bits, self._kept, self._cycles = bits, kept, cycles
        self.loops = [p for p in range(len(nest.loops)) if nest.axes[p] is None and sizes[p] > 1]
        self.tiles = self._find_tiles()
        self.ports = Ports(nest.hardware)
        self._volumes: dict[Extents, Volumes] = {}
        self._known: dict[tuple[object, ...], Needs] = {}
        self._known_steps: dict[tuple[int, Spot], Steps] = {}
        self._covers: dict[int, Extents] = {}
        self._sliding = {tile.place for tile in self.tiles if tile.slides}
        self._whole: dict[int, bool] = {}

    @property
    def left(self) -> Extents:
        """All of the layer."""
        return tuple(self.nest.layer.size(dim) for dim in DIMS)

    def step(self, loop: int) -> int:
        """Iterations that one iteration of a loop covers."""
        return int(np.max(self._of(self.left).tiles.inside(loop)))

    def cover(self, place: int) -> Extents:
        """From the first to the last iteration that a body inside of `place` loops makes in any unit."""
        if place not in self._covers:
            found = dict.fromkeys(DIMS, 1)
            for loop, (dim, _) in enumerate(self.nest.loops):
                if self.nest.axes[loop] is not None or loop in self.loops[place:]:
                    found[dim] += (int(self.sizes[loop]) - 1) * self.step(loop)
            self._covers[place] = tuple(found.values())
        return self._covers[place]

    @cached_property
    def innermost_place(self) -> int:
        """How many loops are outside of the innermost body that something is fetched for."""
        return max((tile.place for tile in self.tiles), default=0)

    def load(self, number: int, spot: Spot) -> Needs:
        """What fetching a tile takes, or bringing sums back."""
        tile = self.tiles[number]
        if tile.operand == "output" and not spot.again:
            return ()
        key = ("load", number, spot.left, spot.next_ and tile.slides)
        if key not in self._known:
            self._known[key] = self._load(tile, spot)
        return self._known[key]

    def store(self, number: int, spot: Spot) -> Needs:
        """What sending a tile of sums on takes."""
        key = ("store", number, spot.left, spot.last)
        if key not in self._known:
            self._known[key] = self._store(self.tiles[number], spot)
        return self._known[key]

    def inside(self, place: int, spot: Spot) -> list[tuple[Spot, int]]:
        """Where the bodies of the loop inside of `place` others are, and how many in a row are there."""
        loop = self.loops[place]
        name, step = self.nest.loops[loop][0], self.step(loop)
        dim, adds = DIMS.index(name), name in REDUCTION
        count = min(int(self.sizes[loop]), -(-spot.left[dim] // step))
        most = self.cover(place + 1)[dim]

        def at(index: int) -> Spot:
            return Spot(
                (*spot.left[:dim], min(spot.left[dim] - index * step, most), *spot.left[dim + 1 :]),
                spot.again or (adds and index > 0),
                spot.last and not (adds and index < count - 1),
                index > 0 and place + 1 in self._sliding,
            )

        full = (spot.left[dim] - most) // step + 1  # iterations for which all is left that they cover
        alike = max(min(full, count - 1), 1)  # all from the second one up to this
        runs = [(at(0), 1), *([(at(1), alike - 1)] if alike > 1 else [])]
        runs += [(at(index), 1) for index in range(alike, count)]
        same = groupby(runs, key=lambda run: run[0])
        return [(each, sum(times for _, times in group)) for each, group in same]

    def steps(self, spot: Spot, place: int | None = None) -> Steps:
        """What all steps of a body without transfers take, that inside of all `place` loops or the innermost.

        Where it is ragged it is taken apart, as its steps use the ports in different measure.
        """
        place = self.innermost_place if place is None else place
        spot = replace(spot, next_=False)
        if (place, spot) not in self._known_steps:
            if place == len(self.loops) or self._is_full(place, spot):
                found = self._steps(spot, place)
            else:
                cycles, used, waiting = 0.0, np.zeros(len(self.ports.speed)), np.zeros(len(self._bits))
                for each, times in self.inside(place, spot):
                    part = self.steps(each, place + 1)
                    cycles += times * part.cycles
                    used += times * part.used
                    waiting += times * part.waiting
                found = Steps(cycles, used, waiting)
            self._known_steps[place, spot] = found
        return self._known_steps[place, spot]

    def _is_full(self, place: int, spot: Spot) -> bool:
        """Whether the layer has all that the loops inside of `place` others cover."""
        return all(left >= most for left, most in zip(spot.left, self.cover(place), strict=True))

    def used_by(self, tile: Tile) -> tuple[int, ...]:
        """The ports that transfers of a tile use."""
        return self.ports.of(tile.level, tile.parent)

    def _find_tiles(self) -> list[Tile]:
        found: list[Tile] = []
        for operand in OPERANDS:
            outer = None
            levels = self.nest.levels(operand)
            for parent, level in pairwise(levels):
                position = self.nest.position(operand, level)
                walking = [p for p in self.loops if p < position and self.nest.indexes(p, operand)]
                place = sum(p <= walking[-1] for p in self.loops) if walking else 0
                slides = bool(walking) and self._slides(operand, level, walking[-1], position)
                innermost = level == levels[-1]
                found.append(Tile(operand, level, parent, outer, place, innermost, slides))
                outer = len(found) - 1
        return found

    def _slides(self, operand: Operand, level: int, place: int, position: int) -> bool:
        """Whether tiles keep what they share with the one before; see the rules of `counts`."""
        if operand != "input" or not self.nest.hardware.memories[level].halo_reuse:
            return False
        dim = self.nest.loops[place][0]
        between = range(place + 1, position)
        return dim in "PQ" and all(self.nest.loops[p][0] != dim or self.sizes[p] == 1 for p in between)

    def _load(self, tile: Tile, spot: Spot) -> Needs:
        bits, level, parent = self._bits, tile.level, tile.parent
        if tile.operand == "output":
            back = self._volume(tile, spot.left, first_unit)
            read, written = back * bits[parent, PARTIAL], back * bits[level, PARTIAL]
            return self.ports.needs(
                {(parent, "read"): read, (level, "write"): written}, {(parent, BACK): read}
            )
        stream = _STREAM[tile.operand]
        served = self._of(spot.left).served(tile.operand, parent, all_of=False)
        new = self._new_part(tile, spot) if tile.slides and spot.next_ else 1.0
        read = new * self._volume(tile, spot.left, served, parent) * bits[parent, stream]
        written = new * self._volume(tile, spot.left, first_unit) * bits[level, stream]
        return self.ports.needs({(parent, "read"): read, (level, "write"): written}, {(parent, stream): read})

    def _store(self, tile: Tile, spot: Spot) -> Needs:
        bits, level, parent = self._bits, tile.level, tile.parent
        left = self._volume(tile, spot.left, first_unit)
        arrived = self._volume(tile, spot.left, self._of(spot.left).added(parent, all_of=False))
        different = self._volume(tile, spot.left, self._different(parent))
        complete_here = spot.last and not tile.innermost and self._is_whole(level)
        complete = different if spot.last and self._is_whole(parent) else 0.0
        gone = complete * bits[parent, OUTPUT] + (arrived - complete) * bits[parent, PARTIAL]
        moved = {
            (level, "read"): left * bits[level, OUTPUT if complete_here else PARTIAL],
            (parent, "read"): (arrived - different) * bits[parent, PARTIAL],
            (parent, "write"): gone,
        }
        return self.ports.needs(moved, {(parent, OUTPUT): gone})

    def _steps(self, spot: Spot, place: int) -> Steps:
        """Steps that begin sums read none, and complete ones are narrower: these are told from the others."""
        volumes, loops = self._of(spot.left), self.nest.loops
        first = self.loops[place] if place < len(self.loops) else len(loops)
        every: list[Flag] = [p >= first for p in range(len(loops))]
        begin: list[Flag] = [flag and loops[p][0] not in REDUCTION for p, flag in enumerate(every)]
        level = self.nest.levels("output")[-1]
        added, different = volumes.added(level, all_of=False), self._different(level)

        def sums(in_time: list[Flag], spread: Spread) -> float:
            return float(volumes.volume("output", None, volumes.flags(in_time, spread))[0])

        steps = float(volumes.visits(every, len(loops))[0])
        read = {stream: self._read_by_units(operand, volumes, every) for operand, stream in _STREAM.items()}
        ends = level == self.nest.home("output") and spot.last and self._is_whole(level)
        arrived, begun, new = sums(every, added), sums(begin, added), sums(begin, different)
        few = float(volumes.visits(begin, len(loops))[0])  # that begin sums, and as many end them
        back = 0.0 if spot.again else new
        if few == steps:
            parts = [_Part(steps, arrived - back, arrived, new if ends else 0.0)]
        else:
            parts = [_Part(few, begun - back, begun, 0.0), _Part(few, begun, begun, new if ends else 0.0)]
            if steps > 2 * few:
                parts.append(_Part(steps - 2 * few, arrived - 2 * begun, arrived - 2 * begun, 0.0))
        cycles, used, waiting = 0.0, np.zeros(len(self.ports.speed)), np.zeros(len(self._bits))
        for part in parts:
            needs = self._step_needs(level, part, {s: part.steps / steps * each for s, each in read.items()})
            busiest = int(needs.argmax())
            longest = max(part.steps * self._cycles, float(needs[busiest]))
            waiting[self.ports.level[busiest]] += longest - part.steps * self._cycles
            cycles += longest
            used += needs
        return Steps(cycles, used, waiting)

    def _read_by_units(self, operand: Operand, volumes: Volumes, every: list[Flag]) -> float:
        level = self.nest.levels(operand)[-1]
        flags = volumes.flags(every, volumes.served(operand, level, all_of=False))
        return float(volumes.volume(operand, None, flags, shared_below=level)[0])

    def _step_needs(self, level: int, part: "_Part", read: dict[int, float]) -> Array:
        """Cycles of each port for some of the steps, that read so many factors and add to sums at `level`."""
        moved: dict[tuple[int, str], float] = {}
        carried: dict[tuple[int, int], float] = {}
        for operand, stream in _STREAM.items():
            at = self.nest.levels(operand)[-1]
            carried[at, stream] = bits = read[stream] * self._kept[stream] * self._bits[at, stream]
            moved[at, "read"] = moved.get((at, "read"), 0.0) + bits
        wide = self._kept[PARTIAL] * self._bits[level, PARTIAL]
        came = part.back * wide
        gone = (part.written - part.complete) * wide + part.complete * self._bits[level, OUTPUT]
        moved[level, "read"] = moved.get((level, "read"), 0.0) + came
        moved[level, "write"] = gone
        found = np.zeros(len(self.ports.speed))
        for port, need in self.ports.needs(moved, {**carried, (level, BACK): came, (level, OUTPUT): gone}):
            found[port] = need
        return found

    def _of(self, left: Extents) -> Volumes:
        """The volumes of a body for which so much of the layer is left."""
        if left not in self._volumes:
            sizes = dict(zip(DIMS, left, strict=True))
            layer = replace(self.nest.layer, **sizes)
            self._volumes[left] = Volumes(replace(self.nest, layer=layer), self.sizes[:, None])
        return self._volumes[left]

    def _volume(self, tile: Tile, left: Extents, spread: Spread, shared_below: int | None = None) -> float:
        """Elements of the whole tiles of those units that `spread` counts."""
        volumes = self._of(left)
        flags = volumes.flags([False] * self.nest.position(tile.operand, tile.level), spread)
        return float(volumes.volume(tile.operand, tile.level, flags, shared_below, whole=True)[0])

    def _slid(self, tile: Tile, left: Extents) -> float:
        """Elements of all tiles of the first unit along which one slides, each without those of the last."""
        volumes = self._of(left)
        flags = volumes.flags([False] * self.nest.position(tile.operand, tile.level), first_unit)
        return float(volumes.volume(tile.operand, tile.level, flags)[0])

    def _new_part(self, tile: Tile, spot: Spot) -> float:
        """The part of a tile that the one before it did not have, from which it slides on."""
        loop = self.loops[tile.place - 1]
        dim, step = DIMS.index(self.nest.loops[loop][0]), self.step(loop)
        own = min(spot.left[dim], step)

        def slid(left: int) -> float:
            return self._slid(tile, (*spot.left[:dim], left, *spot.left[dim + 1 :]))

        return (slid(step + own) - slid(step)) / slid(own)

    def _different(self, parent: int) -> Spread:
        """Of the first memory at `parent`, each unit with other sums than the ones before."""
        return lambda place, axis: (
            self.nest.depths[place] >= 2 * parent and self.nest.loops[place][0] not in REDUCTION
        )

    def _is_whole(self, level: int) -> bool:
        """Whether no two memories of a level sum up parts of the same outputs."""
        if level not in self._whole:
            self._whole[level] = self._find_whole(level)
        return self._whole[level]

    def _find_whole(self, level: int) -> bool:
        tiles, before = self._of(self.left).tiles, sum(depth < 2 * level for depth in self.nest.depths)
        on_axes: list[Flag] = [axis is not None for axis in self.nest.axes]
        dims = [dim for dim in self.nest.dims if dim in REDUCTION]
        return all(np.max(tiles.visits(dim, before, on_axes).count) == 1 for dim in dims)
