"""A brute-force counter: the loop nest of a tiny layer, product by product, with a set for each buffer.

It follows the rules in `tersor.targets.accelerator.counts` one element at a time and has no formula of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from tersor.hardware import Hardware
from tersor.layer import DIMS, INDEXED_BY, Layer, Operand
from tersor.mapping import Mapping

Element = tuple[int, ...]
Indices = tuple[int, ...]
REDUCTION = "CRS"


@dataclass(frozen=True)
class Product:
    """One multiplication: when, on which unit, and the element of each operand."""

    time: Indices  # an index for each loop, those on axes set to 0
    unit: Indices  # an index for each loop, those in time set to 0
    elements: dict[str, Element]


@dataclass
class BruteForce:
    """What the memories read and wrote: by memory, operand or `partial`, and `read` or `write`.

    `first` is the same of the memories of the first units alone, but for partial sums.
    """

    layer: Layer
    hardware: Hardware
    mapping: Mapping
    counted: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    first: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    steps: int = 0

    def __post_init__(self) -> None:
        self.loops = self.mapping.loops
        self.memories = [memory.name for memory in self.hardware.memories]
        self.axes = {axis.name: axis for axis in self.hardware.axes}
        self.products = list(self._products())
        self.steps = len({each.time for each in self.products})
        self._fetch("weight")
        self._fetch("input")
        self._add_up()

    def _products(self) -> Iterable[Product]:
        for indices in product(*(range(loop.size) for loop in self.loops)):
            at = dict.fromkeys(DIMS, 0)
            for loop, index in zip(self.loops, indices, strict=True):
                at[loop.dim] = at[loop.dim] * loop.size + index
            if all(at[dim] < self.layer.size(dim) for dim in DIMS):
                time = tuple(
                    0 if loop.at in self.axes else i for loop, i in zip(self.loops, indices, strict=True)
                )
                unit = tuple(
                    i if loop.at in self.axes else 0 for loop, i in zip(self.loops, indices, strict=True)
                )
                yield Product(time, unit, self._elements(at))

    def _elements(self, at: dict[str, int]) -> dict[str, Element]:
        row = at["P"] * self.layer.stride[0] + at["R"] * self.layer.dilation[0]
        column = at["Q"] * self.layer.stride[1] + at["S"] * self.layer.dilation[1]
        return {
            "weight": (at["G"], at["K"], at["C"], at["R"], at["S"]),
            "input": (at["N"], at["G"], at["C"], row, column),
            "output": (at["N"], at["G"], at["K"], at["P"], at["Q"]),
        }

    def _levels(self, operand: str) -> list[int]:
        return sorted(self.memories.index(keep.at) for keep in self.mapping.keep if keep.operand == operand)

    def _level_of(self, place: int) -> float:
        at = self.loops[place].at
        return self.memories.index(self.axes[at].inside) + 0.5 if at in self.axes else self.memories.index(at)

    def _position(self, operand: str, level: int | None) -> int:
        if level is None:
            return len(self.loops)
        if level == self._levels(operand)[0]:
            return 0  # all of it
        keep = next(k for k in self.mapping.keep if (k.operand, k.at) == (operand, self.memories[level]))
        return sum(self._level_of(place) < level for place in range(len(self.loops))) + keep.inside

    def _place(self, operand: Operand, level: int | None) -> int:
        """How many loops are outside of the instruction that fetches the tile."""
        if level is None:
            return len(self.loops)
        walking = [
            place
            for place in range(self._position(operand, level))
            if self._in_time(place) and self.loops[place].dim in INDEXED_BY[operand]
        ]
        return max(walking, default=-1) + 1

    def _in_time(self, place: int) -> bool:
        return self.loops[place].at not in self.axes and self.loops[place].size > 1

    def _note(self, level: int, unit: Indices, stream: str, what: str, times: int = 1) -> None:
        self.counted[self.memories[level], stream, what] += times
        if not any(unit):
            self.first[self.memories[level], stream, what] += times

    # What one memory of a level is known by: the indices of the axes around it.
    def _owner(self, unit: Indices, level: int | None) -> Indices:
        if level is None:
            return unit
        return tuple(i for place, i in enumerate(unit) if self._level_of(place) < level)

    def _fetch(self, operand: Operand) -> None:
        levels = self._levels(operand)
        for parent, child in zip(levels, [*levels[1:], None], strict=True):
            place = self._place(operand, child)
            touched: dict[Indices, dict[Indices, set[Element]]] = defaultdict(lambda: defaultdict(set))
            for each in self.products:
                stay = each.time[:place]
                position = self._position(operand, child)
                touched[stay][each.unit[:position]].add(each.elements[operand])
            slides = self._slides(operand, child, place)
            for stay, units in touched.items():
                together: dict[tuple[Indices, Indices], set[Element]] = defaultdict(set)
                for unit, tile in units.items():
                    new = set(tile)
                    if slides and stay[-1] > 0:
                        new -= touched[(*stay[:-1], stay[-1] - 1)][unit]
                    if child is not None:
                        self._note(child, unit, operand, "write", len(new))
                    owner = self._owner(unit, parent)
                    together[owner, self._reader(operand, parent, child, unit, slides)] |= new
                for (owner, _), tile in together.items():
                    self._note(parent, owner, operand, "read", len(tile))

    def _slides(self, operand: str, child: int | None, place: int) -> bool:
        if operand != "input" or child is None or place == 0:
            return False
        dim = self.loops[place - 1].dim
        between = self.loops[place : self._position(operand, child)]
        apart = any(loop.dim == dim and loop.size > 1 for loop in between)
        return self.hardware.memories[child].halo_reuse and dim in "PQ" and not apart

    def _reader(
        self, operand: Operand, parent: int, child: int | None, unit: Indices, slides: bool
    ) -> Indices:
        """What tells a unit from those that it shares a read with."""
        place = self._place(operand, child)
        sliding = {"P": "PR", "Q": "QS"}[self.loops[place - 1].dim] if slides else ""
        key: list[int] = []
        for at, index in enumerate(unit):
            loop = self.loops[at]
            if loop.at not in self.axes or self._level_of(at) < parent:
                continue
            axis = self.axes[loop.at]
            same = loop.dim not in INDEXED_BY[operand] and operand in axis.multicast
            inner = [
                other
                for other, each in enumerate(self.loops[: len(unit)])
                if other > at and each.dim == loop.dim and each.size > 1
            ]
            neighbours = all(self._shares_halo(other, parent) for other in (at, *inner))
            halo = operand == "input" and loop.dim in "PQRS" and loop.dim not in sliding and neighbours
            if not (same or halo):
                key += [at, index]
        return tuple(key)

    def _shares_halo(self, place: int, parent: int) -> bool:
        axis = self.axes.get(self.loops[place].at)
        return axis is not None and axis.shares_halo and self._level_of(place) > parent

    def _add_up(self) -> None:
        levels = self._levels("output")
        self.whole = self.layer.C * self.layer.R * self.layer.S
        self.chain = levels
        self.parts = {level: self._parts(level) for level in levels}
        # Of each level and memory: how many products are in each sum that lies there.
        self.sums: list[dict[Indices, dict[Element, int]]] = [defaultdict(dict) for _ in levels]
        steps: dict[Indices, list[Product]] = defaultdict(list)
        for each in self.products:
            steps[each.time].append(each)
        stays: list[Indices | None] = [None] * len(levels)
        places = [self._place("output", level) for level in levels]
        coming: list[dict[Indices, dict[Indices, set[Element]]]] = [
            defaultdict(lambda: defaultdict(set)) for _ in levels
        ]
        for each in self.products:
            for i, level in enumerate(levels):
                owner = each.unit[: self._position("output", level)]
                coming[i][each.time[: places[i]]][owner].add(each.elements["output"])
        for time in sorted(steps):
            changed = [i for i in range(1, len(levels)) if stays[i] != time[: places[i]]]
            for i in reversed(changed):
                if stays[i] is not None:
                    self._drain(i)
            for i in changed:
                stays[i] = time[: places[i]]
                self._bring_back(i, coming[i][time[: places[i]]])
            arriving: Counter[tuple[Indices, Element, Indices]] = Counter()
            for each in steps[time]:
                owner = each.unit[: self._position("output", levels[-1])]
                apart = self._apart(each.unit, levels[-1])
                arriving[owner, each.elements["output"], apart] += 1
            for (owner, element, _), products in arriving.items():
                self._arrive(len(levels) - 1, owner, element, products, from_units=True)
        for i in reversed(range(1, len(levels))):
            self._drain(i)
        assert all(s == self.whole for sums in self.sums[0].values() for s in sums.values())

    def _apart(self, unit: Indices, parent: int) -> Indices:
        """The indices on axes below `parent` along which sums do not add up on their way."""
        return tuple(
            index
            for place, index in enumerate(unit)
            if self.loops[place].at in self.axes
            and self._level_of(place) > parent
            and self.loops[place].dim in REDUCTION
            and not self.axes[self.loops[place].at].reduces
        )

    def _arrive(self, i: int, owner: Indices, element: Element, products: int, from_units: bool) -> None:
        sums = self.sums[i][owner]
        level = self.chain[i]
        if element in sums:
            self._note(level, owner, "partial", "read")
        sums[element] = sums.get(element, 0) + products
        complete = self._is_complete(level, sums[element]) and (level == self.chain[0] or not from_units)
        self._note(level, owner, "output" if complete else "partial", "write")

    def _is_complete(self, level: int, products: int) -> bool:
        """Whether a sum is known to be complete: where units sum up parts of one output, none ever is."""
        return products == self.whole and self.parts[level] == 1

    def _parts(self, level: int) -> int:
        """How many memories at `level` sum up parts of the same outputs."""
        places = [
            place
            for place, loop in enumerate(self.loops)
            if self._level_of(place) < level and loop.dim in REDUCTION
        ]
        return len({tuple(each.unit[place] for place in places) for each in self.products})

    def _drain(self, i: int) -> None:
        level, parent = self.chain[i], self.chain[i - 1]
        innermost = i == len(self.chain) - 1
        leaving: Counter[tuple[Indices, Element, Indices]] = Counter()
        for owner, sums in self.sums[i].items():
            for element, products in sums.items():
                complete = self._is_complete(level, products) and not innermost
                self._note(level, owner, "output" if complete else "partial", "read")
                above = owner[: self._position("output", parent)]
                leaving[above, element, self._apart(owner, parent)] += products
        self.sums[i] = defaultdict(dict)
        for (above, element, _), products in leaving.items():
            self._arrive(i - 1, above, element, products, from_units=False)

    def _bring_back(self, i: int, coming: dict[Indices, set[Element]]) -> None:
        level, parent = self.chain[i], self.chain[i - 1]
        for owner in sorted(coming):
            for element in coming[owner]:
                above = self.sums[i - 1][owner[: self._position("output", parent)]]
                if element in above:
                    self._note(parent, owner[: self._position("output", parent)], "partial", "read")
                    self._note(level, owner, "partial", "write")
                    self.sums[i][owner][element] = above.pop(element)
