"""Costs: cycles and energy of layers under schemes on an accelerator, by the best mappings of each.

Equal shapes are searched once, on all cores, and what was found stays in a database for later runs. A shape
is searched well with the scheme that uniform int8 is there. With any other it is searched shortly, beside the
mappings of one that asks for more: int4+2:4 begins with those of int4, and that with those of w4a8. So fewer
bits or products take more only where they really do.

Of all these the few are chosen by sums over what moves (`model.evaluate`). They alone are timed transfer by
transfer (`model.scheduled`), which takes far longer, and only with outputs as wide as is asked for.

Tensors that stay on the chip (`homes`) are not moved outside, and leave a layer less of their memory.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from tersor.formats.size import stored_bytes
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import homes_of
from tersor.mapping import Keep, Loop
from tersor.mapping import Mapping as Loops
from tersor.scheduler.as_run import as_run, widths
from tersor.scheduler.homes import Homes, narrow_of
from tersor.scheduler.journal import Journal
from tersor.scheduler.machine_space import why_not_run
from tersor.scheduler.model_version import hardware_digest, model_version
from tersor.scheduler.points import Point, Points, after_another, pareto, thin
from tersor.scheme import INT8, W8A32, Scheme
from tersor.targets.accelerator import roofline
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.legality import fits
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.mapper.workers import in_workers
from tersor.targets.accelerator.model import evaluate, scheduled
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.residency import with_size

EFFORT = 3_000  # mappings of a shape under a scheme, beside those that it begins with
THOROUGH = 32  # times as many with the scheme that others begin with, from nothing
_FOUND, _TAKEN = "mappings", "taken"  # what the journal calls the results of a search, and their costs

# Of a layer's name and its scheme as it is run: which zeros it has.
Zeros = Callable[[str, Scheme], Densities]
Asked = tuple[Layer, Scheme, int | None]  # the last are bits of what reads the output, None: as the input
Taken = tuple[float, float] | None  # cycles and pJ of a mapping; None if its tiles do not fit


class _Work(NamedTuple):
    """A task, and the bytes for it beside what stays of the memory where tensors stay; None: nothing does."""

    task: Task
    left: int | None = None


class _Part(NamedTuple):
    """A layer of those that a factor makes, how it is searched, and the bits of its output."""

    layer: Layer
    work: _Work
    output_bits: int

    @property
    def as_read(self) -> _Work:
        """The work with outputs as wide as they are, not as they are searched with."""
        return self.work._replace(task=self.work.task._replace(output_bits=self.output_bits))

    def point(self, taken: tuple[float, float], mapping: Loops) -> Point:
        """What all rows of it take, if one takes so much."""
        steps = self.layer.N if self.layer.recurrent else 1
        return Point(taken[0] * steps, taken[1] * steps, {self.layer.name: mapping})


def no_zeros(name: str, scheme: Scheme) -> Densities:
    """Nothing is known of the zeros of any layer, but what its scheme says."""
    return DENSE


@dataclass
class Costs:
    """What layers take on `hardware`; `zeros` says which of theirs are zero, `homes` where their tensors are.

    About `effort` mappings are tried of each shape under each scheme. The same arguments give the same costs,
    however many `workers` search and whatever the `journal` has.
    """

    hardware: Hardware
    journal: Journal = field(default_factory=Journal)
    effort: int = EFFORT
    zeros: Zeros = no_zeros
    workers: int | None = None
    homes: Homes | None = None
    _found: dict[_Work, tuple[Loops, ...]] = field(default_factory=dict, init=False, repr=False)
    _taken: dict[tuple[_Work, Loops], Taken] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def kept(cls, hardware: Hardware, path: Path, effort: int = EFFORT, zeros: Zeros = no_zeros) -> Self:
        """Costs that are kept in the file `path`. Raises UserError if it cannot be used."""
        return cls(hardware, Journal(path), effort, zeros)

    def why_not(self, layer: Layer, scheme: Scheme) -> str | None:
        """Say why the machine cannot run `layer` under what it makes of a scheme, or None if it can."""
        return why_not_run(layer, self.running(layer, scheme), self.hardware)

    def running(self, layer: Layer, scheme: Scheme) -> Scheme:
        """What the machine makes of a scheme."""
        return as_run(scheme, layer, self.hardware)[0]

    def reference(self, layer: Layer) -> Scheme:
        """The scheme that others are compared with: int8, of a table rows of int8."""
        return W8A32 if layer.operator == "gather" else INT8

    def prepare(
        self, asked: Iterable[Asked], show: Callable[[int, int], None] = lambda done, of: None
    ) -> None:
        """Search what is not known yet, on all cores, before `front` asks for it one by one.

        What the machine cannot run is left out. `show` hears how many searches are done; what it raises ends
        them, and those that are done are kept.
        """
        parts = list(dict.fromkeys(part for each in asked for part in self._parts(*each)))
        steps = self._missing(part.work for part in parts)
        unrated = self._unrated(parts)
        done, of = 0, sum(map(len, steps)) + len(unrated)
        show(done, of)
        for works in steps:
            given = [(self._left(work), work.task, self._seeds(work)) for work in works]
            with closing(in_workers(partial(_search, self.effort), given, self.workers)) as each:
                for number, found in each:
                    self._found[works[number]] = found
                    self.journal.write(_FOUND, self._key(works[number]), list(map(_text, found)))
                    done += 1
                    show(done, of)
        rated = [(self._left(part.work), part.as_read.task, self._found[part.work]) for part in unrated]
        with closing(in_workers(_rate, rated, self.workers)) as each:
            for number, taken in each:
                self._remember(unrated[number], taken)
                self.journal.write(_TAKEN, self._key_of_taken(unrated[number]), taken)
                done += 1
                show(done, of)

    def front(self, layer: Layer, scheme: Scheme, output_bits: int | None = None) -> Points:
        """The mappings of a layer under a scheme that matter (`thin`), in cycles and pJ, the fastest first.

        A layer with a factor is its chain of layers; one for which nothing is found that fits beside what
        stays on the chip has nothing there. `output_bits` are those of what reads its output, as
        wide as its own input if not given. Raises ValueError with the reason why the machine cannot run it.
        """
        if reason := self.why_not(layer, scheme):
            raise ValueError(reason)
        if layer.operator == "gather":
            cost = roofline.estimate(layer, self.running(layer, scheme), self.hardware)
            return (Point(cost.seconds * self.hardware.clock, cost.energy),)
        self.prepare([(layer, scheme, output_bits)])
        fronts = [self._of_part(part) for part in self._parts(layer, scheme, output_bits)]
        if self.homes and not all(fronts):
            return self.moving.front(layer, scheme, output_bits)
        if not all(fronts):
            raise ValueError(
                f"no mapping of {layer.name} was found that fits {self.hardware.name}'s memories"
            )
        return after_another(fronts)

    def best(self, layer: Layer, scheme: Scheme, output_bits: int | None = None) -> Point:
        """That of `front` with the least product of cycles and energy."""
        return min(self.front(layer, scheme, output_bits), key=lambda point: point.edp)

    @cached_property
    def moving(self) -> "Costs":
        """The same where nothing stays on the chip."""
        return replace(self, homes=None)

    def of_mappings(
        self, layer: Layer, scheme: Scheme, mappings: Mapping[str, Loops], output_bits: int | None = None
    ) -> Point:
        """What a layer takes by the mappings of its parts, those of `front` for example.

        Where they keep a tensor on the chip that does not stay there, it is what the best mapping takes.
        Raises ValueError if the machine cannot run it, or if the tiles of one of them do not fit it.
        """
        if reason := self.why_not(layer, scheme):
            raise ValueError(reason)
        if layer.operator == "gather":
            return self.front(layer, scheme)[0]
        total, parts = Point(0.0, 0.0), self._parts(layer, scheme, output_bits)
        if not all(self._are_there(part, mappings[part.layer.name]) for part in parts):
            return self.best(layer, scheme, output_bits)
        for part in parts:
            mapping = mappings[part.layer.name]
            key = part.as_read, mapping
            if key not in self._taken:
                self._taken[key] = _rated(self._left(part.work), part.as_read.task, mapping)
            taken = self._taken[key]
            if taken is None and self.homes:
                return self.moving.of_mappings(layer, scheme, mappings, output_bits)
            if taken is None:
                raise ValueError(f"the tiles of {part.layer.name}'s mapping do not fit {self.hardware.name}")
            total += part.point(taken, mapping)
        return total

    def size(self, layer: Layer, scheme: Scheme) -> int:
        """Bytes of the layer's constants as the machine stores them."""
        return stored_bytes(layer, self.running(layer, scheme))

    def _of_part(self, part: _Part) -> Points:
        each_taken = ((self._taken[part.as_read, mapping], mapping) for mapping in self._found[part.work])
        return pareto(part.point(taken, mapping) for taken, mapping in each_taken if taken)

    def _parts(self, layer: Layer, scheme: Scheme, output_bits: int | None) -> list[_Part]:
        """What is searched for a layer: its outputs at least as wide as those of the reference."""
        if layer.operator == "gather" or self.why_not(layer, scheme):
            return []
        running = self.running(layer, scheme)
        parts = layer.factored(running.factor) if running.factor else (layer,)
        alone = replace(running, factor=None)
        own = running.input_bits
        wide = [own] * (len(parts) - 1) + [output_bits or own]
        least = max(own, self._width)
        tasks = [
            Task(part.at_once, alone, self._seen(part, alone), max(bits, least)).nameless
            for part, bits in zip(parts, wide, strict=True)
        ]
        works = [_Work(task) for task in tasks]
        if self.homes and running.input:
            homes = self.homes.of_parts(layer.name, parts, narrow_of(own, wide[-1]))
            works = [
                _Work(task._replace(on_chip=home.on_chip), home.left)
                for task, home in zip(tasks, homes, strict=True)
            ]
        return [_Part(*each) for each in zip(parts, works, wide, strict=True)]

    def _are_there(self, part: _Part, mapping: Loops) -> bool:
        """Whether all that a mapping keeps on the chip stays there."""
        outermost = self.hardware.memories[0].name
        inside = {operand for operand, at in homes_of(mapping, self.hardware).items() if at != outermost}
        return inside <= set(part.work.task.on_chip)

    def _left(self, work: _Work) -> Hardware:
        """The machine with as much memory as is left to a task, where its own tensors that stay lie too."""
        if work.left is None:
            return self.hardware
        assert self.homes
        return with_size(self.hardware, self.homes.level, work.left + self.homes.own_bytes(work.task))

    @cached_property
    def _width(self) -> int:
        """Bits of activations of the reference."""
        return next((bits for bits in widths(self.hardware, "input") if bits >= 8), 8)

    def _seen(self, layer: Layer, scheme: Scheme) -> Densities:
        """The zeros of a layer that make a difference here."""
        datapath, memories = self.hardware.datapath, self.hardware.memories
        looked_at = {*datapath.skips, *datapath.gates} if datapath else set()
        for operand in ("weight", "input", "output"):
            if any(str(memory.formats.of(operand)) != "dense" for memory in memories):
                looked_at.add(operand)
        found = self.zeros(layer.name, scheme)
        if not {"weight", "input"} <= looked_at:
            found = replace(found, correlation=1.0)
        if "input" not in looked_at:
            found = replace(found, met_input=None)
        return replace(found, **{name: 1.0 for name in {"weight", "input", "output"} - looked_at})

    def _before(self, work: _Work) -> _Work | None:
        """The same with a scheme that asks for more, whose mappings this begins with; None for the reference.

        Zeros count again, then inputs are as wide as the reference's, then weights.
        """
        task = work.task
        dense, reference = replace(task.scheme, sparsity=None), self.running(task.layer, INT8)
        wider = replace(dense, input=reference.input) if dense.input else dense
        last = reference if dense.input else dense
        for scheme in (dense, wider, last):
            if scheme != task.scheme:
                bits = max(self._width, scheme.input_bits)
                return work._replace(task=Task(task.layer, scheme, DENSE, bits, task.on_chip))
        bits = max(self._width, last.input_bits)
        before = work._replace(task=Task(task.layer, last, DENSE, bits, task.on_chip))
        return before if before != work else None

    def _seeds(self, work: _Work) -> tuple[Loops, ...] | None:
        before = self._before(work)
        return None if before is None else self._found[before]

    def _missing(self, works: Iterable[_Work]) -> list[list[_Work]]:
        """What is to be searched, step by step; what is in the database is read."""
        steps: dict[_Work, int] = {}
        for work in works:
            chain = [work]
            while before := self._before(chain[-1]):
                chain.append(before)
            steps |= {each: step for step, each in enumerate(reversed(chain))}
        fresh = {self._key(work): work for work in steps if work not in self._found}
        for key, row in self.journal.all_known(_FOUND, list(fresh)).items():
            self._found[fresh[key]] = tuple(_mapping(*texts) for texts in row)
        missing = [work for work in fresh.values() if work not in self._found]
        return [
            [work for work in missing if steps[work] == step]
            for step in range(max(steps.values(), default=0) + 1)
        ]

    def _unrated(self, parts: Iterable[_Part]) -> list[_Part]:
        """The parts whose mappings are not rated yet; what is in the database is read."""
        fresh = {
            self._key_of_taken(part): part
            for part in parts
            if part.work not in self._found
            or any((part.as_read, mapping) not in self._taken for mapping in self._found[part.work])
        }
        known = self.journal.all_known(
            _TAKEN, [key for key, part in fresh.items() if part.work in self._found]
        )
        for key, row in known.items():
            self._remember(fresh.pop(key), row)
        return list(fresh.values())

    def _remember(self, part: _Part, taken: Iterable[Any]) -> None:
        for mapping, each in zip(self._found[part.work], taken, strict=True):
            self._taken[part.as_read, mapping] = tuple(each) if each else None

    def _key(self, work: _Work) -> str:
        if work not in self._keys:
            task, left = work
            said = repr((*task, str(task.scheme), left, self._machine, self.effort, model_version()))
            self._keys[work] = hashlib.sha256(said.encode()).hexdigest()
        return self._keys[work]

    def _key_of_taken(self, part: _Part) -> str:
        return f"{self._key(part.work)} {part.output_bits}"

    @cached_property
    def _keys(self) -> dict[_Work, str]:
        return {}

    @cached_property
    def _machine(self) -> str:
        return hardware_digest(self.hardware)


def _search(effort: int, given: tuple[Hardware, Task, Sequence[Loops] | None]) -> tuple[Loops, ...]:
    """Search a shape, well without `seeds`, else shortly and with them; () if nothing fits."""
    hardware, task, seeds = given
    tries = effort * THOROUGH if seeds is None else effort
    try:
        ranked = Mapper(hardware, tries, exhaustive=tries).rank(task, seeds or ())
    except ValueError:
        ranked = ()
    points = [Point(cycles, energy, {"": mapping}) for mapping, cycles, energy in ranked]
    for loops in seeds or ():
        if found := _ranked(hardware, task, loops):
            points.append(Point(*found, {"": loops}))
    return tuple(point.mappings[""] for point in thin(pareto(points))) if points else ()


def _rate(given: tuple[Hardware, Task, Sequence[Loops]]) -> list[Taken]:
    """What each of the mappings of a task takes."""
    hardware, task, mappings = given
    return [_rated(hardware, task, mapping) for mapping in mappings]


def _rated(hardware: Hardware, task: Task, mapping: Loops) -> Taken:
    """Cycles and pJ of one mapping, its transfers made one by one."""
    if found := _ranked(hardware, task, mapping):
        nest, sizes = Nest.of(mapping, task.layer, hardware)
        timed = scheduled(nest, sizes, task.scheme, task.densities, task.output_bits)
        return timed.cycles, found[1]
    return None


def _ranked(hardware: Hardware, task: Task, mapping: Loops) -> Taken:
    """Cycles and pJ by which mappings are ranked."""
    nest, sizes = Nest.of(mapping, task.layer, hardware)
    found = evaluate(nest, sizes, task.scheme, task.densities, task.output_bits)
    if not fits(nest, found.needed)[0]:
        return None
    return float(found.cycles[0]), float(found.energy[0])


def _text(mapping: Loops) -> tuple[str, str]:
    """Loops and keeps."""
    return str(mapping), ", ".join(map(str, mapping.keep))


def _mapping(loops: str, keeps: str) -> Loops:
    return Loops(
        tuple(Loop.parse(text) for text in loops.split(", ") if text),
        tuple(Keep.parse(text) for text in keeps.split(", ") if text),
    )
