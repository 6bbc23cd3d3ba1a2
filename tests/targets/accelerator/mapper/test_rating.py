"""Of a front those are rated that may be the best, and of these the best are left."""

import numpy as np

from tersor.targets.accelerator.mapper.front import Point
from tersor.targets.accelerator.mapper.rating import MOST, rate
from tersor.targets.accelerator.schedule.schedule import Schedule


def points(*figures: tuple[float, float]) -> list[Point]:
    return [Point(cycles, energy, (), np.zeros(0, np.int64)) for cycles, energy in figures]


def rated(front: list[Point], cycles: dict[float, float]) -> tuple[list[tuple[float, float]], int]:
    """What is left of a front, and how many were rated; sums are off where `cycles` say so."""
    seen: list[Point] = []

    def schedule(point: Point) -> Schedule:
        seen.append(point)
        return Schedule(cycles.get(point.cycles, point.cycles), np.zeros(2))

    return [(each.cycles, each.point.energy) for each in rate(front, schedule)], len(seen)


FRONT = points((100, 90), (101, 80), (102, 70), (110, 40), (130, 36), (160, 35))


def test_where_the_sums_are_right_only_the_ends_and_the_least_product_are_rated() -> None:
    assert rated(FRONT, {}) == ([(100, 90), (110, 40), (160, 35)], 3)
    assert rated(points((100, 90)), {}) == ([(100, 90)], 1)


def test_a_mapping_that_is_faster_than_the_fastest_by_its_sums_is_found() -> None:
    found, count = rated(FRONT, {100: 106, 101: 107})
    assert found == [(102, 70), (110, 40), (160, 35)]
    assert count == 5


def test_a_mapping_of_less_product_than_the_least_by_its_sums_is_found() -> None:
    found, _ = rated(FRONT, {110: 125})
    assert (130, 36) in found
    assert (125, 40) in found, "it is still faster"


def test_no_more_are_rated_than_some() -> None:
    front = points(*((100 + i, 90 - i) for i in range(40)))
    assert rated(front, {100 + i: 200 + i for i in range(40)})[1] == MOST
