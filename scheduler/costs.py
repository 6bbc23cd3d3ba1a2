"""Costs: cycles and energy of layers under schemes on an accelerator, by the best mappings of each.

Equal shapes are searched once, on all cores, and what was found stays in a database for later runs. A shape
is searched well with the scheme that uniform int8 is there. With any other it is searched shortly, beside the
mappings of one that asks for more: int4+2:4 begins with those of int4, and that with those of w4a8. So fewer
bits or products take more only where they really do.

Of all these the few are chosen by sums over what moves (`model.evaluate`), and cost what their transfers take
one by one (`model.scheduled`).
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from tersor.formats.size import stored_bytes
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapping import Keep, Loop
from tersor.mapping import Mapping as Loops
from tersor.scheduler.as_run import as_run, widths
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

EFFORT = 24_000  # mappings of a shape under a scheme
THOROUGH = 4  # times as many with the scheme that others begin with
_KIND = "mappings"  # what the journal calls a result

# Of a layer's name and its scheme as it is run: which zeros it has.
Zeros = Callable[[str, Scheme], Densities]
Asked = tuple[Layer, Scheme, int | None]  # the last are bits of what reads the output, None: as the input
Row = list[tuple[str, str, dict[str, tuple[float, float]]]]  # loops, keeps; cycles and pJ by bits of output


def no_zeros(name: str, scheme: Scheme) -> Densities:
    """Nothing is known of the zeros of any layer, but what its scheme says."""
    return DENSE


@dataclass
class Costs:
    """What layers take on `hardware`; `zeros` says which of theirs are zero.

    About `effort` mappings are tried of each shape under each scheme. The same arguments give the same costs,
    however many `workers` search and whatever the `journal` has.
    """

    hardware: Hardware
    journal: Journal = field(default_factory=Journal)
    effort: int = EFFORT
    zeros: Zeros = no_zeros
    workers: int | None = None
    _known: dict[str, dict[int, Points]] = field(default_factory=dict, repr=False)

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
        missing = self._missing(task for each in asked for task in self._tasks(*each))
        done, of = 0, sum(map(len, missing))
        show(done, of)
        work = partial(_search, self.hardware, self.effort)
        for tasks in missing:
            todo = [(task, self._seeds(task)) for task in tasks]
            with closing(in_workers(work, todo, self.workers)) as results:
                for number, row in results:
                    key = self._key(tasks[number])
                    self.journal.write(_KIND, key, row)
                    self._known[key] = _points(row)
                    done += 1
                    show(done, of)

    def front(self, layer: Layer, scheme: Scheme, output_bits: int | None = None) -> Points:
        """The mappings of a layer under a scheme that matter (`thin`), in cycles and pJ, the fastest first.

        A layer with a factor is its chain of layers. `output_bits` are those of what reads its output, as
        wide as its own input if not given. Raises ValueError with the reason why the machine cannot run it.
        """
        if reason := self.why_not(layer, scheme):
            raise ValueError(reason)
        running = self.running(layer, scheme)
        if layer.operator == "gather":
            cost = roofline.estimate(layer, running, self.hardware)
            return (Point(cost.seconds * self.hardware.clock, cost.energy),)
        parts = layer.factored(running.factor) if running.factor else (layer,)
        self.prepare([(layer, scheme, output_bits)])
        tasks = self._tasks(layer, scheme, output_bits)
        bits = [running.input_bits] * (len(parts) - 1) + [output_bits or running.input_bits]
        return after_another(
            [self._of_part(part, task, wide) for part, task, wide in zip(parts, tasks, bits, strict=True)]
        )

    def of_mappings(
        self, layer: Layer, scheme: Scheme, mappings: Mapping[str, Loops], output_bits: int | None = None
    ) -> Point:
        """What a layer takes by the mappings of its parts, those of `front` for example.

        Raises ValueError if the machine cannot run it, or if the tiles of one of them do not fit it.
        """
        if reason := self.why_not(layer, scheme):
            raise ValueError(reason)
        running = self.running(layer, scheme)
        if layer.operator == "gather":
            return self.front(layer, scheme)[0]
        parts = layer.factored(running.factor) if running.factor else (layer,)
        tasks = self._tasks(layer, scheme, output_bits)
        bits = [None] * (len(parts) - 1) + [output_bits]
        total = Point(0.0, 0.0)
        for part, task, wide in zip(parts, tasks, bits, strict=True):
            found = _rated(self.hardware, task._replace(output_bits=wide), mappings[part.name])
            if found is None:
                raise ValueError(f"the tiles of {part.name}'s mapping do not fit {self.hardware.name}")
            steps = part.N if part.recurrent else 1
            total += Point(found[0] * steps, found[1] * steps, {part.name: mappings[part.name]})
        return total

    def size(self, layer: Layer, scheme: Scheme) -> int:
        """Bytes of the layer's constants as the machine stores them."""
        return stored_bytes(layer, self.running(layer, scheme))

    def _of_part(self, part: Layer, task: Task, output_bits: int) -> Points:
        found = self._known[self._key(task)].get(output_bits)
        if not found:
            raise ValueError(f"no mapping of {part.name} was found that fits {self.hardware.name}'s memories")
        steps = part.N if part.recurrent else 1
        return tuple(
            Point(each.cycles * steps, each.energy * steps, {part.name: each.mappings[""]}) for each in found
        )

    def _tasks(self, layer: Layer, scheme: Scheme, output_bits: int | None) -> list[Task]:
        """What is searched for a layer: its outputs at least as wide as those of the reference."""
        if layer.operator == "gather" or self.why_not(layer, scheme):
            return []
        running = self.running(layer, scheme)
        parts = layer.factored(running.factor) if running.factor else (layer,)
        alone = replace(running, factor=None)
        wide = [None] * (len(parts) - 1) + [output_bits]
        least = max(running.input_bits, self._width)
        return [
            Task(part.at_once, alone, self._seen(part, alone), max(bits or 0, least)).nameless
            for part, bits in zip(parts, wide, strict=True)
        ]

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

    def _before(self, task: Task) -> Task | None:
        """The same with a scheme that asks for more, whose mappings this begins with; None for the reference.

        Zeros count again, then inputs are as wide as the reference's, then weights.
        """
        dense, reference = replace(task.scheme, sparsity=None), self.running(task.layer, INT8)
        wider = replace(dense, input=reference.input) if dense.input else dense
        last = reference if dense.input else dense
        for scheme in (dense, wider, last):
            if scheme != task.scheme:
                return Task(task.layer, scheme, DENSE, max(self._width, scheme.input_bits))
        before = Task(task.layer, last, DENSE, max(self._width, last.input_bits))
        return before if before != task else None

    def _seeds(self, task: Task) -> tuple[Loops, ...] | None:
        before = self._before(task)
        if before is None:
            return None
        known = self._known[self._key(before)].values()
        return tuple(dict.fromkeys(point.mappings[""] for points in known for point in points))

    def _missing(self, tasks: Iterable[Task]) -> list[list[Task]]:
        """What is to be searched, step by step; what is in the database is read."""
        steps: dict[Task, int] = {}
        for task in tasks:
            chain = [task]
            while before := self._before(chain[-1]):
                chain.append(before)
            steps |= {each: step for step, each in enumerate(reversed(chain))}
        fresh = {self._key(task): task for task in steps if self._key(task) not in self._known}
        for key, row in self.journal.all_known(_KIND, list(fresh)).items():
            self._known[key] = _points(row)
        missing = [task for key, task in fresh.items() if key not in self._known]
        return [
            [task for task in missing if steps[task] == step]
            for step in range(max(steps.values(), default=0) + 1)
        ]

    def _key(self, task: Task) -> str:
        if task not in self._keys:
            said = repr((*task, str(task.scheme), self._machine, self.effort, model_version()))
            self._keys[task] = hashlib.sha256(said.encode()).hexdigest()
        return self._keys[task]

    @cached_property
    def _keys(self) -> dict[Task, str]:
        return {}

    @cached_property
    def _machine(self) -> str:
        return hardware_digest(self.hardware)


def _search(hardware: Hardware, effort: int, work: tuple[Task, Sequence[Loops] | None]) -> Row:
    """Search a shape, well without `seeds`, else shortly and with them; [] if nothing fits."""
    task, seeds = work
    tries = effort * THOROUGH if seeds is None else effort
    try:
        ranked = Mapper(hardware, tries, exhaustive=tries).rank(task)
    except ValueError:
        ranked = ()
    points = [Point(cycles, energy, {"": mapping}) for mapping, cycles, energy in ranked]
    for loops in seeds or ():
        if found := _ranked(hardware, task, loops):
            points.append(Point(*found, {"": loops}))
    if not points:
        return []
    assert task.output_bits
    inputs = {*widths(hardware, "input"), *((32,) if hardware.unit("fp32") else ())}
    bits = sorted({task.output_bits, *(each for each in inputs if each < task.output_bits)})
    row: Row = []
    for point in thin(pareto(points)):
        loops = point.mappings[""]
        by_bits = {each: _rated(hardware, task._replace(output_bits=each), loops) for each in bits}
        taken = {str(each): found for each, found in by_bits.items() if found}
        row.append((str(loops), ", ".join(map(str, loops.keep)), taken))
    return row


def _rated(hardware: Hardware, task: Task, mapping: Loops) -> tuple[float, float] | None:
    """Cycles and pJ of one mapping, its transfers made one by one; None if its tiles do not fit."""
    if found := _ranked(hardware, task, mapping):
        nest, sizes = Nest.of(mapping, task.layer.at_once, hardware)
        timed = scheduled(nest, sizes, task.scheme, task.densities, task.output_bits)
        return timed.cycles, found[1]
    return None


def _ranked(hardware: Hardware, task: Task, mapping: Loops) -> tuple[float, float] | None:
    """Cycles and pJ by which mappings are ranked, None if its tiles do not fit."""
    nest, sizes = Nest.of(mapping, task.layer.at_once, hardware)
    found = evaluate(nest, sizes, task.scheme, task.densities, task.output_bits)
    if not fits(nest, found.needed)[0]:
        return None
    return float(found.cycles[0]), float(found.energy[0])


def _points(row: Any) -> dict[int, Points]:
    """The front of a row of the database, by the bits of the output."""
    by_bits: dict[int, list[Point]] = {}
    for loops, keeps, taken in row:
        mapping = Loops(
            tuple(Loop.parse(text) for text in loops.split(", ") if text),
            tuple(Keep.parse(text) for text in keeps.split(", ") if text),
        )
        for bits, (cycles, energy) in taken.items():
            by_bits.setdefault(int(bits), []).append(Point(cycles, energy, {"": mapping}))
    return {bits: pareto(points) for bits, points in by_bits.items()}
