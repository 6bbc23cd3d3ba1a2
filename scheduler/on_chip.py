"""On chip: which tensors between layers stay in a memory of an accelerator, and by which mappings.

What is chosen keeps the most bytes from moving outside, by an exact integer program that leaves each layer a
part of the memory. What becomes of the mappings at hand then says which part, and whether a tensor is worth
its room; and where they do not fit beside what was chosen, others are searched.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf

from tersor.hardware import Hardware
from tersor.layer import Operand
from tersor.loop_tree import homes_of
from tersor.mapping import Keep
from tersor.mapping import Mapping as Loops
from tersor.scheduler.contract import Quantity
from tersor.scheduler.packing import pack, rounded
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.mapper.workers import in_workers
from tersor.targets.accelerator.model import evaluate, scheduled
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.passing import Passed, Programs, Share
from tersor.targets.accelerator.residency import Operands, with_size

LEFT = (1 / 4, 1 / 2)  # parts of the memory that each program is left, one after the other
SHORT = 16  # a mapping at hand is searched with so many times less effort than one that is taken

Taken = tuple[float, float]  # cycles and pJ
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Weights:
    """What a cycle and a pJ are worth."""

    cycle: float
    energy: float

    @classmethod
    def of(cls, minimize: Quantity, cycles: float, energy: float) -> "Weights":
        """By what is to be the least, near to a network that takes so much; else by the product of both."""
        match minimize:
            case "latency":
                return cls(1.0, 1e-6 * cycles / max(energy, 1e-9))
            case "energy":
                return cls(1e-6 * energy / max(cycles, 1e-9), 1.0)
            case _:
                return cls(energy, cycles)

    def price(self, taken: Taken) -> float:
        """What both are worth together."""
        return self.cycle * taken[0] + self.energy * taken[1]


@dataclass(frozen=True)
class Chosen:
    """The tensors that stay, new mappings by the programs' numbers, and why others do not stay."""

    kept: tuple[Passed, ...] = ()
    mappings: Mapping[int, Loops] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)  # by the number of the producer


@dataclass
class OnChip:
    """The choice for one network.

    `tasks` are those of the programs on the array, `mappings` how they run where the tensors of `planned`
    stay, if they can.
    """

    programs: Programs
    tasks: Mapping[int, Task]
    mappings: Mapping[int, Loops]
    weights: Weights
    effort: int
    workers: int | None = None
    planned: tuple[Passed, ...] = ()
    _known: dict[tuple[int, Share], tuple[float, Loops | None]] = field(
        default_factory=dict, init=False, repr=False
    )
    _taken: dict[tuple[Task, Loops], float] = field(default_factory=dict, init=False, repr=False)

    def choose(self, show: Show = lambda done, of: None) -> Chosen:
        """Choose, and search the mappings of what changes; `show` hears how many are done."""
        able = [each for each in self.programs.passed if not self.programs.why_not(each)]
        sets = dict.fromkeys([self.planned, *(pack(self.programs, part) for part in LEFT)])
        best = min((*sets, ()), key=self.price)
        for each in sorted(best, key=self.programs.saved):
            show(0, 1)
            without = tuple(other for other in best if other is not each)
            if self._is_in_the_way(each, best) and self.price(without) < self.price(best):
                best = without
        fitting = {each.producer for chosen in sets for each in chosen}
        why = {each.producer: self._why_not(each, each.producer in fitting) for each in able}
        return Chosen(best, self._mapped(best, show), self._refused(best, why))

    def as_planned(self) -> Chosen:
        """What was planned, by the mappings as they are."""
        unworthy = "the whole network would not take less"
        return Chosen(self.planned, refused=self._refused(self.planned, defaultdict(lambda: unworthy)))

    def runs(self, kept: Sequence[Passed]) -> bool:
        """Whether all programs run by the mappings as they are where these tensors stay."""
        shares = self._shares(kept)
        return shares is not None and all(
            self._at_hand(number, shares[number])[1] == self.mappings[number] for number in self.tasks
        )

    def price(self, kept: Sequence[Passed]) -> float:
        """What all programs on the array take together, infinite if it does not fit."""
        shares = self._shares(kept)
        if shares is None:
            return inf
        return sum(self._at_hand(number, shares[number])[0] for number in self.tasks)

    def _is_in_the_way(self, passed: Passed, kept: Sequence[Passed]) -> bool:
        """Whether a program that runs while a tensor is there takes more than if nothing stayed."""
        shares = self._shares(kept)
        there = self.programs.order.while_there(passed.tensor)
        alone = Share((), self.programs.capacity)
        return shares is None or any(
            there >> number & 1 and self._at_hand(number, shares[number])[0] > self._at_hand(number, alone)[0]
            for number in self.tasks
        )

    def _shares(self, kept: Sequence[Passed]) -> list[Share] | None:
        rooms = self.programs.rooms(kept)
        if rooms is None:
            return None
        return [self.programs.share(number, room) for number, room in enumerate(rooms)]

    def _refused(self, kept: Sequence[Passed], why: Mapping[int, str]) -> dict[int, str]:
        """Why tensors do not stay, by the number of the producer."""
        return {
            each.producer: self.programs.why_not(each) or why[each.producer]
            for each in self.programs.passed
            if each not in kept
        }

    def _why_not(self, passed: Passed, fits: bool) -> str:
        memory = self.programs.hardware.memories[self.programs.level].name
        if fits:
            return (
                f"the tiles of layers that run meanwhile are worth more than {passed.size} bytes of {memory}"
            )
        return f"{passed.size} bytes do not fit {memory} beside the tensors that stay and tiles"

    def _at_hand(self, number: int, share: Share) -> tuple[float, Loops | None]:
        """The price of a program by its mapping, its operands where they stay, or by one shortly searched."""
        key = number, share
        if key not in self._known:
            task = self._task(number, share)
            priced = self._priced(task, [self._home(number, share)], share)
            if priced[1] is None:
                left = with_size(self.programs.hardware, self.programs.level, share.size)
                priced = self._priced(task, _search(self.effort // SHORT, (task, left)), share)
            self._known[key] = priced
        return self._known[key]

    def _task(self, number: int, share: Share) -> Task:
        return self.tasks[number]._replace(on_chip=share.on_chip).nameless

    def _home(self, number: int, share: Share) -> Loops:
        """The mapping of a program, its operands where they stay."""
        return at_home(self.mappings[number], self.programs.hardware, share.on_chip, self.programs.level)

    def _priced(self, task: Task, mappings: Iterable[Loops], share: Share) -> tuple[float, Loops | None]:
        """The best of some mappings that fit a share, and its price."""
        left = with_size(self.programs.hardware, self.programs.level, share.size)
        best: tuple[float, Loops | None] = (inf, None)
        for mapping in mappings:
            layer, scheme, densities, bits, _ = task
            if why_not(layer, scheme, mapping, left, densities, bits):
                continue
            if (task, mapping) not in self._taken:
                taken = taken_by(task, mapping, self.programs.hardware)
                self._taken[task, mapping] = self.weights.price(taken)
            if (price := self._taken[task, mapping]) < best[0]:
                best = price, mapping
        return best

    def _mapped(self, kept: Sequence[Passed], show: Show) -> dict[int, Loops]:
        """The best mappings of all programs whose own do not fit to what stays."""
        shares = self._shares(kept)
        assert shares is not None  # what is chosen fits
        changed = [n for n in self.tasks if self._at_hand(n, shares[n])[1] != self.mappings[n]]
        works = {number: self._work(number, shares[number]) for number in changed}
        fresh = list(dict.fromkeys(works.values()))
        searched: dict[object, tuple[Loops, ...]] = {}
        show(0, len(fresh))
        with closing(in_workers(partial(_search, self.effort), fresh, self.workers)) as results:
            for done, (place, found) in enumerate(results, start=1):
                searched[fresh[place]] = found
                show(done, len(fresh))
        mappings: dict[int, Loops] = {}
        for number in changed:
            at_hand = self._at_hand(number, shares[number])[1]
            tried = [*([at_hand] if at_hand else []), *searched[works[number]]]
            best = self._priced(works[number][0], tried, shares[number])[1]
            assert best  # what is chosen has a price
            mappings[number] = best
        return mappings

    def _work(self, number: int, share: Share) -> tuple[Task, Hardware]:
        """What is searched for a program; sizes that are nearly the same are taken for the smaller one."""
        own = sum(self.programs.views[number][each] for each in share.on_chip)
        size = own + rounded(share.size - own, self.programs.capacity)
        return self._task(number, share), with_size(self.programs.hardware, self.programs.level, size)


def at_home(mapping: Loops, hardware: Hardware, on_chip: Operands, level: int) -> Loops:
    """A mapping with some operands where they stay, and no further outside; the others come from outside."""
    homes = homes_of(mapping, hardware)
    home, outermost = hardware.memories[level].name, hardware.memories[0].name
    inside = {memory.name for memory in hardware.memories[level + 1 :]}
    in_place = {operand for operand in on_chip if homes[operand] == home}
    moved: set[Operand] = set(on_chip) - in_place
    kept = [each for each in mapping.keep if each.operand not in moved or each.at in inside]
    outside: list[Operand] = [
        operand for operand, at in homes.items() if at != outermost and operand not in on_chip
    ]
    fresh = [Keep(operand, home) for operand in on_chip if operand in moved]
    fresh += [Keep(operand, outermost) for operand in outside]
    return replace(mapping, keep=(*fresh, *kept)) if fresh else mapping


def _search(effort: int, work: tuple[Task, Hardware]) -> tuple[Loops, ...]:
    """The mappings that the mapper finds to be the best; none if nothing fits."""
    task, hardware = work
    try:
        found = Mapper(hardware, effort, exhaustive=effort).map(*task)
    except ValueError:
        return ()
    return tuple(each.mapping for each in found.front)


def taken_by(task: Task, mapping: Loops, hardware: Hardware) -> Taken:
    """Cycles and pJ of a mapping whose tiles fit."""
    layer, scheme, densities, bits, _ = task
    nest, sizes = Nest.of(mapping, layer, hardware)
    cycles = scheduled(nest, sizes, scheme, densities, bits).cycles
    return cycles, float(evaluate(nest, sizes, scheme, densities, bits).energy[0])
