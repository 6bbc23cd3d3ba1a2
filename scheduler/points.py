"""Points: cycles and energy of mappings of a layer, and the few of them that a search chooses from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from tersor.mapping import Mapping as Loops

MOST = 5  # points of a front that are kept
LEAST_GAIN = 0.005  # of cycles or energy, below which a point is not kept


@dataclass(frozen=True)
class Point:
    """Cycles and pJ of layers that run one after the other, and the mapping of each by its name."""

    cycles: float
    energy: float
    mappings: Mapping[str, Loops] = field(default_factory=dict)

    @property
    def edp(self) -> float:
        """Cycles times pJ."""
        return self.cycles * self.energy

    def __add__(self, other: "Point") -> "Point":
        return Point(
            self.cycles + other.cycles, self.energy + other.energy, {**self.mappings, **other.mappings}
        )


Points = tuple[Point, ...]


def pareto(points: Iterable[Point]) -> Points:
    """Those that no other one beats in both, the fastest first; of equals the first to come."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cycles, point.energy)):
        if not found or point.energy < found[-1].energy:
            found.append(point)
    return tuple(found)


def after_another(fronts: Sequence[Points]) -> Points:
    """The thinned front of the sums of one point of each front."""
    total = fronts[0]
    for front in fronts[1:]:
        total = thin(pareto(first + second for first, second in product(total, front)))
    return total


def thin(front: Points, most: int = MOST) -> Points:
    """The points of a front that matter.

    First its ends and the least product of cycles and energy; then, one by one, the point that is the
    furthest below the line between its neighbours among those, measured in parts of their energy: what a
    policy that mixes the neighbours would lose without it. Points that save less than `LEAST_GAIN` are left
    out, an end too, if the other end is hardly worse.
    """
    fastest, least = front[0], front[-1]
    if least.cycles <= fastest.cycles * (1 + LEAST_GAIN):
        return (least,)
    if fastest.energy <= least.energy * (1 + LEAST_GAIN):
        return (fastest,)
    kept = {0, len(front) - 1, min(range(len(front)), key=lambda place: front[place].edp)}
    while len(kept) < most:
        gains = {place: _below(front, sorted(kept), place) for place in range(len(front))}
        place = max(gains, key=lambda place: gains[place])
        if gains[place] < LEAST_GAIN:
            break
        kept.add(place)
    return tuple(front[place] for place in sorted(kept))


def _below(front: Points, kept: list[int], place: int) -> float:
    """How far a point lies below the line between the kept points around it, as a part of its energy."""
    if place in kept:
        return 0.0
    left = front[max(each for each in kept if each < place)]
    right = front[min(each for each in kept if each > place)]
    here = front[place]
    share = (here.cycles - left.cycles) / (right.cycles - left.cycles)
    return (left.energy + share * (right.energy - left.energy)) / here.energy - 1
