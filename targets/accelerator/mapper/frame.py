"""Frame: the order of loops at each memory and what is kept where, without the loops' sizes.

Every dimension but G leaves one operand in place: N, P and Q the weight, K the input, and C, R and S the
output. So loops come in groups, one for each operand that they leave in place, with G outside of them all. An
order matters by the groups that are innermost just outside of some tile, where a tile further inside is of
the operand that stays in place; frames that differ in nothing else are listed once. Outside of an input with
`halo_reuse` it also matters whether P or Q is inside, and which group is just outside of K.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from math import prod

from tersor.hardware import Hardware
from tersor.layer import Dim, Operand
from tersor.mapping import Keep
from tersor.targets.accelerator.residency import Operands, home_of

GROUPS = ("NPQ", "K", "CRS")


@dataclass(frozen=True)
class Level:
    """What a frame says of one memory: groups of loops, and of each operand the groups outside of its tile.

    An operand that is not kept here has no entry in `keeps`.
    """

    order: tuple[str, ...]
    keeps: tuple[tuple[Operand, int], ...]

    @property
    def loops(self) -> tuple[Dim, ...]:
        """The dimensions of the loops, the outermost first."""
        return tuple("".join(self.order))  # type: ignore[return-value]  # letters of DIMS

    def keep(self, memory: str) -> Iterator[Keep]:
        """Where the operands are kept, the outermost first, with groups counted as loops."""
        for operand, groups in sorted(self.keeps, key=lambda each: each[1]):
            yield Keep(operand, memory, sum(map(len, self.order[:groups])))

    def without_loops_of_one(self, loops: Collection[str]) -> tuple[tuple[str, ...], set[tuple[str, int]]]:
        """The loops, and around what each operand is kept, if only `loops` make more than one iteration."""
        around = {
            operand: sum(dim in loops for group in self.order[:groups] for dim in group)
            for operand, groups in self.keeps
        }
        return tuple(dim for dim in self.loops if dim in loops), set(around.items())

    def is_next_to(self, other: "Level", any_order: bool) -> bool:
        """Whether one step leads to `other`: another order of loops, or another place of one operand.

        With `any_order`, the loops may be in another order as well where an operand is in another place.
        """
        if self.keeps == other.keeps:
            return self.order != other.order
        moved = {operand for operand, _ in set(self.keeps) ^ set(other.keeps)}
        return len(moved) == 1 and (any_order or self.order == other.order)


@dataclass(frozen=True)
class Frames:
    """All frames of a machine for loops over `dims`: what each memory may say, from the outermost.

    Operands that stay `on_chip` are whole in the memory where they do, and not further outside.
    """

    hardware: Hardware
    dims: tuple[Dim, ...]
    on_chip: Operands = ()

    def levels(self, level: int) -> list[Level]:
        """All that is worth saying of one memory, tiles of the whole order first."""
        found: dict[tuple[object, ...], Level] = {}
        for order in self._orders():
            for keeps in self._keeps(level, len(order)):
                each = Level(order, keeps)
                found.setdefault(self._difference(level, each), each)
        return list(found.values())

    def passing_by(self, level: int, here: Level, levels: Iterable[Level]) -> list[Level]:
        """Of the `levels` of one memory those that are `here` but for one operand, which passes it by.

        They may have another order of loops, which comes to the same.
        """
        listed = {self._difference(level, each): each for each in levels}
        without = (tuple(each for each in here.keeps if each != kept) for kept in here.keeps)
        others = (listed.get(self._difference(level, Level(here.order, keeps))) for keeps in without)
        return [other for other in others if other is not None]

    def even(self, level: int) -> list[Level]:
        """Those that keep every operand it may, with all loops of the memory inside of the tiles.

        The innermost loops leave something in place that is kept further inside, where any do.
        """
        levels = self.levels(level)
        every = max(len(each.keeps) for each in levels)
        found = [
            each
            for each in levels
            if len(each.keeps) == every and not any(groups for _, groups in each.keeps)
        ]
        inside = self._kept_inside(level)
        return [each for each in found if each.order and _in_place(each.order[-1]) in inside] or found[:1]

    def _orders(self) -> list[tuple[str, ...]]:
        groups = ["".join(dim for dim in group if dim in self.dims) for group in GROUPS]
        outside = ("G",) if "G" in self.dims else ()
        found = [(*outside, *order) for order in permutations(filter(None, groups))]
        if self._slides and {"P", "Q"} <= set(self.dims):
            found += [tuple(group.replace("PQ", "QP") for group in order) for order in found]
        return found

    @property
    def _slides(self) -> bool:
        return any(memory.halo_reuse for memory in self.hardware.memories)

    def _keeps(self, level: int, groups: int) -> Iterator[tuple[tuple[Operand, int], ...]]:
        keeps = self.hardware.memories[level].keeps
        for choice in product(*(self._places(operand, level, groups) for operand in keeps)):
            yield tuple(
                (operand, place) for operand, place in zip(keeps, choice, strict=True) if place is not None
            )

    def _places(self, operand: Operand, level: int, groups: int) -> list[int | None]:
        home = home_of(operand, self.on_chip, self.hardware)
        return [None] if level < home else [0] if level == home else [*range(groups + 1), None]

    def _kept_inside(self, level: int) -> set[Operand]:
        """The operands that may be kept further inside than `level`."""
        return {operand for memory in self.hardware.memories[level + 1 :] for operand in memory.keeps}

    def _slides_inside(self, level: int) -> bool:
        return any(memory.halo_reuse and "input" in memory.keeps for memory in self.hardware.memories[level:])

    def _difference(self, level: int, each: Level) -> tuple[object, ...]:
        """What sets a level apart: the groups between tiles, and what of their order matters."""
        cuts = sorted({0, len(each.order), *(groups for _, groups in each.keeps)})
        parts: list[object] = []
        for start, end in pairwise(cuts):
            here: set[Operand] = {operand for operand, groups in each.keeps if groups >= end}
            slides = self._slides_inside(level if "input" in here else level + 1)
            part = each.order[start:end]
            parts += (frozenset(map(_in_place, part)), _order(part, here | self._kept_inside(level), slides))
        return (each.keeps, *parts)


def _in_place(group: str) -> Operand | None:
    """The operand that the loops of a group leave in place."""
    return {"N": "weight", "P": "weight", "Q": "weight", "K": "input", "G": None}.get(group[0], "output")


def _order(part: tuple[str, ...], inside: set[Operand], slides: bool) -> tuple[object, ...]:
    """What of the order of groups matters to the operands inside, if tiles of the input may slide there."""
    *_, innermost = part
    if slides:
        return part[-2:] if innermost == "K" else (innermost,)
    return (_in_place(innermost),) if _in_place(innermost) in inside else ()


def count_of(levels: list[list[Level]]) -> int:
    """How many frames the levels make."""
    return prod(map(len, levels))
