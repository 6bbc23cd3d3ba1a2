"""Decode: the flat tables of a program, and the state of the machine before its first instruction."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from tersor.hardware import Hardware
from tersor.layer import DIMS, Layer
from tersor.targets.accelerator.isa.instruction import (
    OPERANDS,
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
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.simulator import tables
from tersor.targets.accelerator.simulator.rates import buses_of
from tersor.targets.accelerator.simulator.sharing import Spreading, Taking, coordinates, offsets
from tersor.targets.accelerator.simulator.tables import Code, Ints
from tersor.targets.accelerator.simulator.tensors import touched_size

REDUCTION = "CRS"
ONES = (1,) * len(DIMS)
Key = tuple[str, int]  # an operand and a level


@dataclass(frozen=True)
class Placed:
    """A load or a store: its tile, the outer one, and the loops in time around it."""

    operand: str
    outer: int
    inner: int
    extents: Extents
    places: int
    loops: tuple[Loop, ...]
    slides: bool = False
    restore: bool = False


class Decoded:
    """The tables of one program. Raises ValueError for one that is no nest of loops around one step."""

    def __init__(self, program: Program, hardware: Hardware) -> None:
        self.layer, self.hardware = program.layer, hardware
        levels = {memory.name: level for level, memory in enumerate(hardware.memories)}
        self.spreads = tuple(
            Spreading(each.dim, each.size, each.step, axis, levels[axis.inside])
            for each in program.instructions
            if isinstance(each, Spread)
            for axis in [hardware.axes[each.axis]]
        )
        self.instructions = [each for each in program.instructions if not isinstance(each, Spread)]
        self.placed, self.partner = _walk(self.instructions)
        self.homes: dict[str, int] = dict.fromkeys(OPERANDS, 0) | {h.operand: h.level for h in program.homes}
        self.keys = self._keys()
        self.tiles, self.rows, self.slots = self._tiles()
        units, groups, self.members = self._units()
        moves, pool = self._moves()
        self.code = Code(self._code(), self.tiles, self.rows, moves, pool, self._levels(), units, groups)

    def number(self, operand: str, level: int) -> int:
        """The tile of an operand at a level."""
        return self.keys.index((operand, level))

    def innermost(self, operand: str) -> int:
        """The tile that the units work on."""
        return max(number for number, key in enumerate(self.keys) if key[0] == operand)

    @property
    def sums(self) -> int:
        """Slots of outputs, which are the first."""
        sums = self.tiles[self.tiles[:, tables.OF] == tables.OUTPUT]
        return int(sums[:, [tables.PLACES, tables.BOX, tables.COUNT]].prod(axis=1).sum())

    def stays_at_home(self, operand: str) -> bool:
        """Whether the units take an operand from the memory that has all of it."""
        return self.innermost(operand) == self.number(operand, self.homes[operand])

    def around(self, level: int) -> tuple[Spreading, ...]:
        """The spreads around a memory."""
        return tuple(spread for spread in self.spreads if spread.inside < level)

    def _keys(self) -> list[Key]:
        found = {(operand, self.homes[operand]) for operand in OPERANDS}
        found |= {(each.operand, each.inner) for each in self.placed.values()}
        return sorted(found, key=lambda key: (OPERANDS.index(key[0]), key[1]))  # type: ignore[arg-type]

    def _tiles(self) -> tuple[Ints, Ints, int]:
        """The tiles, the memories that they are in, and slots for all of them."""
        by_key = {(each.operand, each.inner): each for each in self.placed.values()}
        found = np.zeros((len(self.keys), tables.TILE_COLUMNS), np.int64)
        rows: list[tuple[int, ...]] = []
        begin = 0
        # Sums first, so that what tells whether they are there is as short as they are.
        for number in sorted(range(len(self.keys)), key=lambda number: self.keys[number][0] != "output"):
            operand, level = self.keys[number]
            placed = by_key.get((operand, level))
            if placed is None:
                box, stride = _whole(operand, self.layer)
            else:
                box = _box(operand, placed.extents, self.layer)
                stride = tuple(prod(box[i + 1 :]) for i in range(5))
            here = coordinates(self.around(level))
            places = placed.places if placed else 1
            found[number, : tables.STRIDE] = (
                OPERANDS.index(operand), level, places, prod(box), begin, len(rows), len(here), 0,  # type: ignore[arg-type]
            )  # fmt: skip
            found[number, tables.STRIDE : tables.ALONG] = stride
            found[number, tables.ALONG : tables.ORIGIN] = _along(operand, stride, self.layer)
            rows += here
            begin += prod(box) * places * len(here)
        return found, np.array([(*row, 0, 0) for row in rows], np.int64), begin

    def _units(self) -> tuple[Ints, Ints, int]:
        """The units in the order of their groups, the groups, and how many units one has."""
        inner = [self.innermost(operand) for operand in OPERANDS]
        order, groups = self._groups(self.spreads, self.keys[inner[2]][1])
        found = np.zeros((len(order), tables.UNIT_COLUMNS), np.int64)
        found[:, : len(DIMS)] = at = np.array(coordinates(self.spreads), np.int64)[order]
        for operand, number in enumerate(inner):
            tile = self.tiles[number]
            memory = self._part(self.spreads, self.keys[number][1])[order]
            own = self.rows[tile[tables.ROW] + memory, : len(DIMS)]
            slots = memory * tile[tables.PLACES] * tile[tables.BOX]
            along = tile[tables.ALONG : tables.ORIGIN]
            found[:, tables.UNIT_SLOT + operand] = slots + ((at - own) * along).sum(axis=1)
        firsts = self._part(self.spreads, self.keys[inner[2]][1])[order][:: groups.size] == 0
        return found, np.stack([firsts, groups.apart], axis=1).astype(np.int64), groups.size

    def _part(self, spreads: tuple[Spreading, ...], level: int) -> Ints:
        """Of all units of `spreads`, in order, which memory at `level` each belongs to."""
        numbers = np.zeros([spread.size for spread in spreads], np.int64)
        for axis, spread in enumerate(spreads):
            if spread.inside < level:
                shape = [1] * len(spreads)
                shape[axis] = spread.size
                numbers = numbers * spread.size + np.arange(spread.size).reshape(shape)
        return np.broadcast_to(numbers, [spread.size for spread in spreads]).reshape(-1)

    def _groups(self, spreads: tuple[Spreading, ...], outer: int) -> tuple[Ints, "_Groups"]:
        """Order the units of `spreads` by the groups whose sums add up before they arrive at `outer`."""
        sizes = [spread.size for spread in spreads]
        numbers = np.arange(prod(sizes)).reshape(sizes)
        around = [i for i, s in enumerate(spreads) if s.inside < outer]
        adding = [
            i for i, s in enumerate(spreads) if s.inside >= outer and s.dim in REDUCTION and s.axis.reduces
        ]
        others = [i for i in range(len(spreads)) if i not in (*around, *adding)]
        order = numbers.transpose([*around, *others, *adding]).reshape(-1)
        apart = [
            int(any(index and spreads[i].dim in REDUCTION for i, index in zip(others, indices, strict=True)))
            for indices in product(*(range(sizes[i]) for i in others))
        ]
        outside = prod(sizes[i] for i in around)
        return order, _Groups(prod(sizes[i] for i in adding), np.array(apart * outside, np.int64))

    def _moves(self) -> tuple[Ints, Ints]:
        """The moves, and the pool of offsets and members that they point into."""
        units = [Placed(o, self.keys[self.innermost(o)][1], -1, ONES, 1, self._loops()) for o in OPERANDS[:2]]
        pool: list[int] = []
        moves = [self._move(placed, pool) for placed in (*self.placed.values(), *units)]
        return np.array(moves, np.int64), np.array(pool, np.int64)

    def _move(self, placed: Placed, pool: list[int]) -> Ints:
        move = np.zeros(tables.MOVE_COLUMNS, np.int64)
        by_units = placed.inner < 0
        around = self.spreads if by_units else self.around(placed.inner)
        slides = placed.loops[-1].dim if placed.slides else None
        move[tables.TILE] = -1 if by_units else self.number(placed.operand, placed.inner)
        move[tables.SOURCE] = self.number(placed.operand, placed.outer)
        move[tables.SLIDES] = DIMS.index(slides) if slides else -1
        move[tables.RESTORE] = placed.restore
        move[tables.EXTENT : tables.COVER] = placed.extents
        move[tables.COVER : tables.KNOWN] = [
            max(offsets([spread for spread in around if spread.dim == dim])) + extent
            for dim, extent in zip(DIMS, placed.extents, strict=True)
        ]
        move[tables.KNOWN : tables.WHERE] = -2  # not yet
        if not by_units:
            first = self.tiles[move[tables.TILE], tables.ROW]
            parents = self._part(around, placed.outer)
            own = self.rows[first : first + len(parents)]
            own[:, tables.PARENT] = parents
            outer = self.tiles[move[tables.SOURCE]]
            apart = own[:, : len(DIMS)] - self.rows[outer[tables.ROW] + parents, : len(DIMS)]
            own[:, tables.OFFSET] = parents * outer[tables.PLACES] * outer[tables.BOX]
            own[:, tables.OFFSET] += (apart * outer[tables.ALONG : tables.ORIGIN]).sum(axis=1)
        if placed.operand == "output":
            order, groups = self._groups(around, placed.outer)
            move[tables.FIRST_MEMBER : tables.EXTENT] = (
                len(pool), len(groups.apart), groups.size, len(pool) + len(order),
            )  # fmt: skip
            pool += [*order.tolist(), *groups.apart.tolist()]
        else:
            loops = tuple((loop.dim, loop.step) for loop in placed.loops)
            taking = Taking(placed.operand, placed.outer, around, loops, slides)  # type: ignore[arg-type]
            move[tables.WHERE :] = _write_offsets(taking, pool)
        return move

    def _levels(self) -> Ints:
        found = np.zeros((len(self.hardware.memories), tables.LEVEL_COLUMNS), np.int64)
        for level, memory in enumerate(self.hardware.memories):
            shared = memory.bandwidth is not None
            found[level, : tables.BUS] = 2 * level, 2 * level + (not shared), self._is_whole(level)
        found[:, tables.BUS :] = -1
        for number, (level, stream, _) in enumerate(buses_of(self.hardware), start=2 * len(found)):
            found[level, tables.BUS + stream] = number
        return found

    def _is_whole(self, level: int) -> bool:
        """Whether no two memories of a level sum up parts of the same outputs."""
        beginning = (offsets([s for s in self.around(level) if s.dim == dim]) for dim in REDUCTION)
        return all(
            sum(offset < self.layer.size(dim) for offset in each) == 1
            for dim, each in zip(REDUCTION, beginning, strict=True)
        )

    def _loops(self) -> tuple[Loop, ...]:
        return tuple(each for each in self.instructions if isinstance(each, Loop))

    def _code(self) -> Ints:
        found = np.zeros((len(self.instructions), tables.CODE_COLUMNS), np.int64)
        kinds = {Loop: tables.LOOP, End: tables.END, Load: tables.LOAD, Store: tables.STORE,
                 Compute: tables.COMPUTE, Sync: tables.SYNC}  # fmt: skip
        for row, each in zip(found, self.instructions, strict=True):
            row[tables.CODE_KIND] = kinds[type(each)]  # type: ignore[index]
            if isinstance(each, Loop):
                row[tables.CODE_DIM : tables.CODE_PARTNER] = DIMS.index(each.dim), each.size, each.step
            waits: tuple[Token, ...] = getattr(each, "waits", ())
            gives: tuple[Token, ...] = getattr(each, "signals", ())
            self._write_tokens(row[tables.FULL_WAITS : tables.FULL_SIGNALS], waits)
            self._write_tokens(row[tables.FULL_SIGNALS :], gives)
        found[:, tables.CODE_PARTNER] = self.partner
        return found

    def _write_tokens(self, row: Ints, tokens: tuple[Token, ...]) -> None:
        """Write which tiles are full, then which have a free place."""
        row[:] = -1
        for begin, state in ((0, "full"), (tables.MOST_TOKENS, "free")):
            tiles = [self.number(each.operand, each.level) for each in tokens if each.state == state]
            row[begin : begin + len(tiles)] = tiles


@dataclass(frozen=True)
class _Groups:
    size: int  # members of each
    apart: Ints  # of each: whether another one before it has the same sums


def _walk(instructions: Sequence[Instruction]) -> tuple[dict[int, Placed], list[int]]:
    """Give the transfers, and of each instruction its partner: a loop's end, or the transfer's row."""
    placed: dict[int, Placed] = {}
    partner = [0] * len(instructions)
    open_: list[tuple[int, Loop]] = []
    steps = 0
    for row, each in enumerate(instructions):
        loops = tuple(loop for _, loop in open_)
        match each:
            case Loop():
                open_.append((row, each))
            case End():
                if not open_:
                    raise ValueError("the program has an end without a loop")
                begin, _ = open_.pop()
                partner[row], partner[begin] = begin, row
            case Load():
                partner[row] = len(placed)
                placed[row] = Placed(
                    each.operand, each.source, each.target, each.extents, each.places, loops, each.slides,
                    each.restore,
                )  # fmt: skip
            case Store():
                partner[row] = len(placed)
                placed[row] = Placed("output", each.target, each.source, each.extents, each.places, loops)
            case Compute():
                steps += 1
            case _:
                pass
    if open_ or steps != 1:
        raise ValueError(
            f"a program is one nest of loops around one step, got {steps} steps, {len(open_)} open"
        )
    return placed, partner


def _box(operand: str, extents: Extents, layer: Layer) -> tuple[int, ...]:
    """The sizes of a tile's five coordinates."""
    n, g, k, c, p, q, r, s = extents
    if operand == "weight":
        return g, k, c, r, s
    if operand == "output":
        return n, g, k, p, q
    rows = (p - 1) * layer.stride[0] + (r - 1) * layer.dilation[0] + 1
    return n, g, c, rows, (q - 1) * layer.stride[1] + (s - 1) * layer.dilation[1] + 1


def _whole(operand: str, layer: Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides of a whole tensor: a matmul has its groups outside of its rows."""
    sizes = tuple(layer.size(dim) for dim in DIMS)
    box = _box(operand, sizes, layer)
    stride = [prod(box[i + 1 :]) for i in range(5)]
    if operand != "weight" and layer.operator == "matmul":
        stride[0], stride[1] = box[2], layer.N * box[2]
    assert operand != "input" or box[3:] == touched_size(layer)
    return box, tuple(stride)


def _along(operand: str, stride: tuple[int, ...], layer: Layer) -> list[int]:
    """Slots from one iteration over each dimension to the next."""
    down, right = stride[3], stride[4]
    named: dict[str, dict[str, int]] = {
        "weight": dict(zip("GKCRS", stride, strict=True)),
        "output": dict(zip("NGKPQ", stride, strict=True)),
        "input": dict(zip("NGC", stride[:3], strict=True))
        | {"P": down * layer.stride[0], "R": down * layer.dilation[0]}
        | {"Q": right * layer.stride[1], "S": right * layer.dilation[1]},
    }
    return [named[operand].get(dim, 0) for dim in DIMS]


def _write_offsets(taking: Taking, pool: list[int]) -> list[int]:
    """Put offsets into the pool, and say where: for all memories and the first, by dimension."""
    where: list[int] = []
    for first in (False, True):
        for dim in DIMS:
            for found in (taking.own(dim, first), taking.together(dim)):
                where += [len(pool), len(found)]
                pool += found
    return where
