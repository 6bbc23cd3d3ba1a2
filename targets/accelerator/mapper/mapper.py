"""Mapper: the best mappings of layers on one machine, each shape of a layer searched once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapping import Mapping
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.legality import why_no_layer
from tersor.targets.accelerator.mapper.beam import Beam
from tersor.targets.accelerator.mapper.bound import Bound, bound
from tersor.targets.accelerator.mapper.rating import Rated, rate
from tersor.targets.accelerator.mapper.search import Search, work
from tersor.targets.accelerator.mapper.space import Space
from tersor.targets.accelerator.mapper.workers import in_workers
from tersor.targets.accelerator.residency import Operands

EFFORT = 280_000  # mappings of a shape, which take a core about a second


class Task(NamedTuple):
    """A layer to map. `output_bits` are those of what reads the output, if not those of the layer's input.

    Operands that are `on_chip` lie in the memory of `residency.home_level`.
    """

    layer: Layer
    scheme: Scheme = INT8
    densities: Densities = DENSE
    output_bits: int | None = None
    on_chip: Operands = ()

    @property
    def nameless(self) -> "Task":
        """The same for all layers of the same shape."""
        return self._replace(layer=replace(self.layer, name=""))


@dataclass(frozen=True)
class Mapped:
    """A mapping with its cycles and its energy in pJ.

    The cycles are those of `model.scheduled`, in `waits` of which the array waits for each memory, and by
    `ranked`, those of `model.evaluate`, it was found.
    """

    mapping: Mapping
    cycles: float
    energy: float
    waits: tuple[float, ...]
    ranked: float

    @property
    def edp(self) -> float:
        """Cycles times pJ."""
        return self.cycles * self.energy


@dataclass(frozen=True)
class Found:
    """What the mapper found for a layer.

    `front` are mappings none of which beats another one in both cycles and energy, the fastest first: the
    best by the sums that mappings are ranked by, with their own cycles (`rating`). If `exact`, all mappings
    of the space were ranked; no mapping at all is below `bound`. `evaluated` says how many were ranked. A gap
    is how much of the cycles, the energy or their product may be too much, as a fraction of the bound; 0 if
    exact, though by sums that are the same another mapping may be faster.
    """

    front: tuple[Mapped, ...]
    exact: bool
    bound: Bound
    evaluated: int

    @property
    def fastest(self) -> Mapped:
        """The mapping of the fewest cycles."""
        return self.front[0]

    @property
    def least_energy(self) -> Mapped:
        """The mapping of the least energy."""
        return self.front[-1]

    @property
    def least_edp(self) -> Mapped:
        """The mapping of the least product of cycles and energy."""
        return min(self.front, key=lambda each: each.edp)

    @property
    def latency_gap(self) -> float:
        """By how much the fastest may be above the best possible, as a fraction; 0 if it is exact."""
        return 0.0 if self.exact else self.fastest.cycles / self.bound.cycles - 1

    @property
    def energy_gap(self) -> float:
        """By how much the least energy may be above the best possible, as a fraction; 0 if it is exact."""
        return 0.0 if self.exact else self.least_energy.energy / self.bound.energy - 1

    @property
    def edp_gap(self) -> float:
        """By how much the least product of both may be above the best possible; 0 if it is exact."""
        return 0.0 if self.exact else self.least_edp.edp / self.bound.edp - 1


@dataclass
class Mapper:
    """Maps layers to `hardware`; layers that differ in their names alone are searched once.

    Spaces that take at most `exhaustive` evaluations are enumerated. In others about `effort` mappings are
    tried, the time to begin with another frame counted as some. Without `ragged`, the sizes of loops divide
    those of the layer. The same arguments give the same mappings, however many cores search.
    """

    hardware: Hardware
    effort: int = EFFORT
    exhaustive: int = 500_000
    ragged: bool = True
    _known: dict[Task, Found | None] = field(default_factory=dict, repr=False)

    def map(
        self,
        layer: Layer,
        scheme: Scheme = INT8,
        densities: Densities = DENSE,
        output_bits: int | None = None,
        on_chip: Operands = (),
    ) -> Found:
        """Find the best mappings of `layer`, with arguments as of `Task`.

        Raises ValueError with `why_no_layer`'s reason, or if no mapping fits the memories.
        """
        if reason := why_no_layer(layer, scheme, self.hardware):
            raise ValueError(reason)
        task = Task(layer, scheme, densities, output_bits, on_chip).nameless
        if task not in self._known:
            self._known[task] = self._search(task)
        if found := self._known[task]:
            return found
        raise ValueError(f"no mapping of {layer.name} was found that fits {self.hardware.name}'s memories")

    def search(
        self,
        tasks: Iterable[Task],
        show: Callable[[int, int], None] = lambda done, of: None,
        workers: int | None = None,
    ) -> None:
        """Search shapes before `map` asks for them, on all cores; `show` hears how many are done.

        What the machine cannot run is left out, for `map` to refuse.
        """
        able = (task.nameless for task in tasks if not why_no_layer(task.layer, task.scheme, self.hardware))
        fresh = [task for task in dict.fromkeys(able) if task not in self._known]
        show(0, len(fresh))
        # Another thread pickles what workers are given, while what is known grows here.
        blank = replace(self, _known={})
        for done, (number, found) in enumerate(in_workers(blank._search, fresh, workers), start=1):
            self._known[fresh[number]] = found
            show(done, len(fresh))

    def rank(self, task: Task, near: Iterable[Mapping] = ()) -> tuple[tuple[Mapping, float, float], ...]:
        """The front by the sums that mappings are ranked by, unrated: mappings, cycles and pJ.

        With `near`, mappings that are good under another scheme, better ones are looked for beside those.
        It is empty if none fits. Raises ValueError with `why_no_layer`'s reason.
        """
        if reason := why_no_layer(task.layer, task.scheme, self.hardware):
            raise ValueError(reason)
        search, _ = self._ranked(task, near)
        found = []
        for point in search.front.points:
            nest, sizes = search.mapping(point)
            found.append((nest.mapping(sizes[:, 0]), point.cycles, point.energy))
        return tuple(found)

    def _search(self, task: Task) -> Found | None:
        search, exact = self._ranked(task)
        if not search.front.points:
            return None
        return Found(
            tuple(_mapped(search, each) for each in rate(search.front.points, search.schedule)),
            exact,
            bound(task.layer, task.scheme, self.hardware, task.densities, task.output_bits, task.on_chip),
            search.evaluated,
        )

    def _ranked(self, task: Task, near: Iterable[Mapping] = ()) -> tuple[Search, bool]:
        """The search, done, and whether it was of all mappings."""
        layer, scheme, densities, output_bits, on_chip = task
        space = _space(layer, self.hardware, self.ragged, on_chip)
        exact = work(space) <= self.exhaustive
        choices = space.choices if exact else space.promising
        search = Search(space, choices, scheme, densities, output_bits)
        if exact:
            search.enumerate()
        else:
            Beam(search, self.effort).run(filter(None, (search.placed(each) for each in near)))
        return search, exact


@lru_cache(maxsize=64)
def _space(layer: Layer, hardware: Hardware, ragged: bool, on_chip: Operands) -> Space:
    """The same space for every scheme: to list its frames and sizes takes as long as a short search."""
    return Space(layer, hardware, ragged, on_chip)


def _mapped(search: Search, rated: Rated) -> Mapped:
    nest, sizes = search.mapping(rated.point)
    waits = tuple(rated.schedule.waits.tolist())
    return Mapped(nest.mapping(sizes[:, 0]), rated.cycles, rated.point.energy, waits, rated.point.cycles)
