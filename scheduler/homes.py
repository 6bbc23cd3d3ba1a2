"""Homes: the tensors between layers that stay on an accelerator's chip while their schemes are chosen.

They are those of uniform int8 that save the most and fit together (`packing`). Of narrower numbers they take
less, so they fit whatever is chosen; and what they save outside, schemes cannot save any more.

Of what is too large for that, some stay where all that reads them does so in few bits: a scheme then saves
not a part of what they move outside, but all of it. Which, is found likewise, beside the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from tersor.hardware import Hardware
from tersor.layer import Layer, Operand
from tersor.network import Network
from tersor.plan import EdgePlan
from tersor.scheduler.as_run import widths
from tersor.scheduler.packing import pack, rounded
from tersor.scheduler.widths import output_bits
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.bits import element_bits
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.lowering.allocate import Room, home_bytes
from tersor.targets.accelerator.mapper.mapper import Task
from tersor.targets.accelerator.passing import Passed, Programs
from tersor.targets.accelerator.residency import Operands

LEFT = 1 / 8  # of the memory, to each program: where tensors stay, only small tiles move
NARROW = Scheme.parse("int4")  # what makes tensors stay that do not in int8: inputs of at most its bits
BETWEEN = 1 / 2  # of what is left to a layer, at most, for tensors between those that a factor makes of it


@dataclass(frozen=True)
class Home:
    """The operands of a layer that stay, and the bytes that are left beside all that does."""

    on_chip: Operands
    left: int


@dataclass(frozen=True)
class Homes:
    """The tensors that stay, `kept` of what the programs of a network in int8 pass on.

    Those of `narrow` stay where all of their readers have inputs of as few bits as `NARROW`; their sizes are
    of these.
    """

    programs: Programs
    kept: tuple[Passed, ...]
    narrow: tuple[Passed, ...] = ()

    @classmethod
    def of(cls, programs: Programs, network: Network) -> "Homes":
        """Let those stay that save the most."""
        kept = pack(programs, LEFT)
        if not any(_is_narrow(bits) for bits in widths(programs.hardware, "input")):
            return cls(programs, kept)
        others = [each for each in programs.passed if each not in kept and not each.reason]
        narrow = [found for each in others if (found := _narrow(each, programs, network))]
        return cls(programs, kept, pack(programs, LEFT, narrow, kept))

    @property
    def level(self) -> int:
        """The memory that they stay in."""
        return self.programs.level

    def of_parts(self, name: str, parts: Sequence[Layer], narrow: Operands = ()) -> list[Home]:
        """Of the layers that a factor makes of the layer `name`, one after the other, or of it alone.

        `narrow` are those of its operands that are as narrow as `NARROW`. The tensors between the layers
        stay, too, if that leaves enough.
        """
        whole = self._home(name, narrow)
        if len(parts) == 1:
            return [replace(whole, left=rounded(whole.left, self.programs.capacity))]
        between = sum(self._between(one, other) for one, other in pairwise(parts))
        stay = between <= BETWEEN * whole.left
        left = rounded(whole.left - stay * between, self.programs.capacity)
        homes: list[Home] = []
        for place in range(len(parts)):
            reads = stay if place else "input" in whole.on_chip
            writes = stay if place + 1 < len(parts) else "output" in whole.on_chip
            homes.append(Home(_ends(reads, writes), left))
        return homes

    def own_bytes(self, task: Task) -> int:
        """Bytes of those operands of a task that stay."""
        bits = element_bits(task.layer, task.scheme, self._hardware, DENSE, task.output_bits)[self.level]
        return sum(home_bytes(task.layer, operand, bits) for operand in task.on_chip)

    def moved(self, schemes: Mapping[str, Scheme]) -> frozenset[str]:
        """The layers one of whose tensors moves all the same.

        What makes or reads it has no integers, or what else reads it has wide ones.
        """
        names = self.programs.names
        return frozenset(
            names[number]
            for each in (*self.kept, *(each for each in self.narrow if self._is_asked(each, schemes)))
            if not self._stays(each, schemes)
            for number in (each.producer, *(reader for reader, found in each.readers if found))
        )

    def edges(self, network: Network, schemes: Mapping[str, Scheme]) -> tuple[EdgePlan, ...]:
        """What stays if the layers have these schemes, as a plan has it."""
        return tuple(EdgePlan(*each, on_chip=True) for each in self._pairs(network, schemes))

    def _pairs(self, network: Network, schemes: Mapping[str, Scheme]) -> Iterator[tuple[str, str]]:
        names, wide = self.programs.names, output_bits(network, schemes)
        parts = {
            name: [part.name for part in network[name].factored(scheme.factor)] if scheme.factor else [name]
            for name, scheme in schemes.items()
        }
        for each in (*self.kept, *self.narrow):
            if self._stays(each, schemes):
                producer = names[each.producer]
                for reader, found in each.readers:
                    own = parts.get(names[reader], [names[reader]])
                    yield parts.get(producer, [producer])[-1], own[0] if found else own[-1]
        for name, own in parts.items():
            if len(own) > 1 and name in self._numbers:
                factor = schemes[name].factor
                assert factor
                narrow = narrow_of(schemes[name].input_bits, wide.get(name, INT8.input_bits))
                homes = self.of_parts(name, network[name].factored(factor), narrow)
                if "output" in homes[0].on_chip and schemes[name].input:
                    yield from pairwise(own)

    def _stays(self, passed: Passed, schemes: Mapping[str, Scheme]) -> bool:
        """Where any layer computes in floats, an operator that is none may, too: nothing stays there then."""
        names = self.programs.names
        through = {names[passed.producer], *(names[reader] for reader, _ in passed.readers)}
        asked = through if through <= schemes.keys() else schemes.keys() & set(names)
        integers = all(schemes[name].input for name in asked)
        if not integers or passed in self.kept:
            return integers
        return all(_is_narrow(schemes[names[reader]].input_bits) for reader, _ in passed.readers)

    def _is_asked(self, passed: Passed, schemes: Mapping[str, Scheme]) -> bool:
        """Whether a narrow input is to stay."""
        readers = [self.programs.names[reader] for reader, found in passed.readers if found]
        return any(_is_narrow(schemes[reader].input_bits) for reader in readers)

    def _home(self, name: str, narrow: Operands) -> Home:
        """Of a layer with such operands; of one that is run several times nothing stays."""
        found = [self._share(number, narrow) for number in self._numbers.get(name, ())]
        if not found:
            return Home((), self.programs.capacity)
        return replace(found[-1], left=min(each.left for each in found))

    def _share(self, number: int, narrow: Operands) -> Home:
        """What one program has where all other programs' tensors stay that may."""
        gone = tuple(each for each in self.narrow if not self._may_stay(each, number, narrow))
        if gone not in self._rooms:
            there = [each for each in (*self.kept, *self.narrow) if each not in gone]
            rooms = self.programs.rooms(there, gone)
            assert rooms is not None  # what is kept fits
            self._rooms[gone] = rooms
        room = self._rooms[gone][number]
        return Home(self.programs.share(number, room).on_chip, room.end - room.begin)

    def _may_stay(self, passed: Passed, number: int, narrow: Operands) -> bool:
        """Whether a program with such operands lets a tensor stay: what it adds is as wide as its input."""
        if passed.producer == number:
            return "output" in narrow
        return "input" in narrow or number not in {reader for reader, _ in passed.readers}

    @cached_property
    def _rooms(self) -> dict[tuple[Passed, ...], tuple[Room, ...]]:
        """What is left to each program, by the tensors that are gone."""
        return {}

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        """The programs of each layer."""
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.programs.names):
            found.setdefault(name, []).append(number)
        return found

    def _between(self, one: Layer, other: Layer) -> int:
        """Bytes of the tensor that one layer makes for another, in int8."""
        return _bytes(one, [other], INT8, self._hardware, self.level)

    @property
    def _hardware(self) -> Hardware:
        return self.programs.hardware


def _ends(reads: bool, writes: bool) -> Operands:
    return (*(("input",) if reads else ()), *(("output",) if writes else ()))


def narrow_of(input_bits: int, output_bits: int) -> Operands:
    """Which of a layer's operands are as narrow as `NARROW`."""
    return _ends(_is_narrow(input_bits), _is_narrow(output_bits))


def _is_narrow(bits: int) -> bool:
    return bits <= NARROW.input_bits


def _narrow(passed: Passed, programs: Programs, network: Network) -> Passed | None:
    """The tensor in few bits; None if an operator that is no layer makes or reads it."""
    names = [
        programs.names[number] for number in (passed.producer, *(number for number, _ in passed.readers))
    ]
    if not all(name in network for name in names):
        return None
    read = [programs.names[number] for number, found in passed.readers if found]
    layers = [network[name] for name in read]
    size = _bytes(network[names[0]], layers, NARROW, programs.hardware, programs.level)
    return replace(passed, size=size)


def _bytes(producer: Layer, readers: Sequence[Layer], scheme: Scheme, hardware: Hardware, level: int) -> int:
    """Bytes of a tensor between layers where it stays: with the padding of whoever pads it most."""

    def seen(layer: Layer, operand: Operand) -> int:
        return home_bytes(layer, operand, element_bits(layer, scheme, hardware, DENSE)[level])

    return max(seen(producer, "output"), *(seen(layer, "input") for layer in readers))
