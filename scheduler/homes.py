"""Homes: the tensors between layers that stay on an accelerator's chip while their schemes are chosen.

They are those of uniform int8 that save the most and fit together (`packing`). Of narrower numbers they take
less, so they fit whatever is chosen; and what they save outside, schemes cannot save any more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.network import Network
from tersor.plan import EdgePlan
from tersor.scheduler.packing import pack, rounded
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.bits import element_bits
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.lowering.allocate import home_bytes
from tersor.targets.accelerator.mapper.mapper import Task
from tersor.targets.accelerator.passing import Passed, Programs
from tersor.targets.accelerator.residency import Operands

LEFT = 1 / 4  # of the memory, to each program
BETWEEN = 1 / 2  # of what is left to a layer, at most, for tensors between those that a factor makes of it


@dataclass(frozen=True)
class Home:
    """The operands of a layer that stay, and the bytes that are left beside all that does."""

    on_chip: Operands
    left: int


@dataclass(frozen=True)
class Homes:
    """The tensors that stay, `kept` of what the programs of a network in int8 pass on."""

    programs: Programs
    kept: tuple[Passed, ...]

    @classmethod
    def of(cls, programs: Programs) -> "Homes":
        """Let those stay that save the most."""
        return cls(programs, pack(programs, LEFT))

    @property
    def level(self) -> int:
        """The memory that they stay in."""
        return self.programs.level

    def of_parts(self, name: str, parts: Sequence[Layer]) -> list[Home]:
        """Of the layers that a factor makes of the layer `name`, one after the other, or of it alone.

        The tensors between them stay, too, if that leaves enough.
        """
        whole = self._layers.get(name, Home((), self.programs.capacity))
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
        """The layers one of whose tensors moves all the same: what makes or reads it has no integers."""
        names = self.programs.names
        return frozenset(
            names[number]
            for each in self.kept
            if not self._stays(each, schemes)
            for number in (each.producer, *(reader for reader, found in each.readers if found))
        )

    def edges(self, network: Network, schemes: Mapping[str, Scheme]) -> tuple[EdgePlan, ...]:
        """What stays if the layers have these schemes, as a plan has it."""
        return tuple(EdgePlan(*each, on_chip=True) for each in self._pairs(network, schemes))

    def _pairs(self, network: Network, schemes: Mapping[str, Scheme]) -> Iterator[tuple[str, str]]:
        names = self.programs.names
        parts = {
            name: [part.name for part in network[name].factored(scheme.factor)] if scheme.factor else [name]
            for name, scheme in schemes.items()
        }
        for each in self.kept:
            if self._stays(each, schemes):
                producer = names[each.producer]
                for reader, found in each.readers:
                    own = parts.get(names[reader], [names[reader]])
                    yield parts.get(producer, [producer])[-1], own[0] if found else own[-1]
        for name, own in parts.items():
            if len(own) > 1 and name in self._layers:
                factor = schemes[name].factor
                assert factor
                homes = self.of_parts(name, network[name].factored(factor))
                if "output" in homes[0].on_chip and schemes[name].input:
                    yield from pairwise(own)

    def _stays(self, passed: Passed, schemes: Mapping[str, Scheme]) -> bool:
        """Where any layer computes in floats, an operator that is none may, too: nothing stays there then."""
        names = self.programs.names
        through = {names[passed.producer], *(names[reader] for reader, _ in passed.readers)}
        asked = through if through <= schemes.keys() else schemes.keys() & set(names)
        return all(schemes[name].input for name in asked)

    @cached_property
    def _layers(self) -> dict[str, Home]:
        """By name; of a layer that is run several times nothing stays."""
        rooms = self.programs.rooms(self.kept)
        assert rooms is not None  # what is kept fits
        found: dict[str, Home] = {}
        for number, name in enumerate(self.programs.names):
            share = self.programs.share(number, rooms[number])
            own = sum(self.programs.views[number][each] for each in share.on_chip)
            left = min(share.size - own, found[name].left if name in found else share.size)
            found[name] = Home(share.on_chip, left)
        return found

    def _between(self, one: Layer, other: Layer) -> int:
        """Bytes of the tensor that one layer makes for another, in int8."""
        output, input = (element_bits(each, INT8, self._hardware, DENSE)[self.level] for each in (one, other))
        return max(home_bytes(one, "output", output), home_bytes(other, "input", input))

    @property
    def _hardware(self) -> Hardware:
        return self.programs.hardware


def _ends(reads: bool, writes: bool) -> Operands:
    return (*(("input",) if reads else ()), *(("output",) if writes else ()))
