"""Rating: the cycles of a search's best mappings, from their transfers one by one.

A search ranks by the sums of `model.evaluate`. They say nothing of the order of transfers and are mostly too
low where ports are busy, by some percent, so of a few mappings that are alike the first may not be the best.
Those are rated that are the best for time, energy and their product, then those that may yet be better, the
best first, until none is left whose sums are below what was rated, or some were rated: each takes as long as
some thousand mappings that are ranked.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from tersor.targets.accelerator.mapper.front import Point
from tersor.targets.accelerator.schedule.schedule import Schedule

MOST = 6  # points of a front that are rated
LEAST_GAIN = 0.005  # of cycles, or their product with energy, below which no other point is rated


class Rated(NamedTuple):
    """A point with its cycles, which are no longer those by which it was ranked."""

    point: Point
    schedule: Schedule

    @property
    def cycles(self) -> float:
        """All cycles."""
        return self.schedule.cycles

    @property
    def edp(self) -> float:
        """Cycles times pJ."""
        return self.cycles * self.point.energy


def rate(points: Sequence[Point], schedule: Callable[[Point], Schedule]) -> list[Rated]:
    """Rate a front, the fastest first: what is left is those rated that no other one beats in both."""
    least_edp = min(points, key=lambda point: point.edp)
    first = {id(point): point for point in (points[0], points[-1], least_edp)}
    rated = [Rated(point, schedule(point)) for point in first.values()]
    left = [point for point in points if id(point) not in first]
    while len(rated) < MOST and left:
        gains = [_gain(left, rated, "cycles"), _gain(left, rated, "edp")]
        gain, point = max(gains, key=lambda each: each[0])
        if gain < LEAST_GAIN:
            break
        left = [each for each in left if each is not point]
        rated.append(Rated(point, schedule(point)))
    return _front(rated)


def _gain(left: Sequence[Point], rated: Sequence[Rated], figure: str) -> tuple[float, Point]:
    """Give the point that by its sums is the best of those left, and how much better than any rated one."""
    best = min(left, key=attrgetter(figure))
    return min(map(attrgetter(figure), rated)) / attrgetter(figure)(best) - 1, best


def _front(rated: Sequence[Rated]) -> list[Rated]:
    found: list[Rated] = []
    for each in sorted(rated, key=lambda each: (each.cycles, each.point.energy)):
        if not found or each.point.energy < found[-1].point.energy:
            found.append(each)
    return found
