"""Mapper: the best mappings of layers on one machine, each shape of a layer searched once."""

from dataclasses import dataclass, field, replace

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapping import Mapping
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.legality import why_no_layer
from tersor.targets.accelerator.mapper.bound import Bound, bound
from tersor.targets.accelerator.mapper.front import Point
from tersor.targets.accelerator.mapper.search import Beam, Search, promising, work
from tersor.targets.accelerator.mapper.space import Space


@dataclass(frozen=True)
class Mapped:
    """A mapping with its cycles and its energy in pJ."""

    mapping: Mapping
    cycles: float
    energy: float

    @property
    def edp(self) -> float:
        """Cycles times pJ."""
        return self.cycles * self.energy


@dataclass(frozen=True)
class Found:
    """What the mapper found for a layer.

    `front` are the mappings that no other one beats in both cycles and energy, the fastest first. If `exact`,
    these are the best of all mappings of the space; else no mapping at all is below `bound`. `evaluated` says
    how many mappings were tried.
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


@dataclass
class Mapper:
    """Maps layers to `hardware`; layers that differ in their names alone are searched once.

    Spaces that take at most `exhaustive` evaluations are enumerated. In others about `effort` mappings are
    tried. The same arguments give the same mappings.
    """

    hardware: Hardware
    effort: int = 100_000
    exhaustive: int = 200_000
    _known: dict[tuple[Layer, Scheme, Densities], Found] = field(default_factory=dict, repr=False)

    def map(self, layer: Layer, scheme: Scheme = INT8, densities: Densities = DENSE) -> Found:
        """Find the best mappings of `layer`.

        Raises ValueError with `why_no_layer`'s reason, or if no mapping fits the memories.
        """
        if reason := why_no_layer(layer, scheme, self.hardware):
            raise ValueError(reason)
        key = (replace(layer, name=""), scheme, densities)
        if key not in self._known:
            self._known[key] = self._search(layer, scheme, densities)
        return self._known[key]

    def _search(self, layer: Layer, scheme: Scheme, densities: Densities) -> Found:
        space = Space(layer, self.hardware)
        exact = work(space) <= self.exhaustive
        choices = space.choices if exact else promising(space)
        search = Search(space, choices, scheme, densities)
        if exact:
            search.enumerate()
        else:
            Beam(search, self.effort).run()
        points = search.front.points
        if not points:
            raise ValueError(
                f"no mapping of {layer.name} was found that fits {self.hardware.name}'s memories"
            )
        return Found(
            tuple(_mapped(search, point) for point in points),
            exact,
            bound(layer, scheme, self.hardware, densities),
            search.evaluated,
        )


def _mapped(search: Search, point: Point) -> Mapped:
    nest, rows = search.space.nest(point.frame)
    sizes = search.choices.sizes(point.digits[:, None])[rows, 0]
    return Mapped(nest.mapping(sizes), point.cycles, point.energy)
