from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.mapping import Mapping
from tersor.scheduler.points import LEAST_GAIN, MOST, Point, Points, after_another, pareto, thin


def points(*pairs: tuple[float, float]) -> Points:
    return tuple(Point(cycles, energy) for cycles, energy in pairs)


some_points = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=1, max_size=40)


@given(some_points)
def test_a_front_has_what_nothing_else_beats_in_both(pairs: list[tuple[int, int]]) -> None:
    front = pareto(points(*pairs))
    for cycles, energy in pairs:
        assert any(each.cycles <= cycles and each.energy <= energy for each in front)
    for left, right in pairwise(front):
        assert left.cycles < right.cycles
        assert left.energy > right.energy


@given(some_points)
def test_thinning_keeps_the_ends_and_the_least_product_but_for_little(pairs: list[tuple[int, int]]) -> None:
    front = pareto(points(*pairs))
    few = thin(front)
    assert len(few) <= MOST
    assert all(point in front for point in few)
    near = 1 + LEAST_GAIN
    assert min(each.cycles for each in few) <= front[0].cycles * near
    assert min(each.energy for each in few) <= front[-1].energy * near
    assert min(each.edp for each in few) <= min(each.edp for each in front) * near


def test_of_the_others_those_are_kept_that_mixing_their_neighbours_does_not_reach() -> None:
    assert thin(points((1, 9), (2, 8), (3, 7))) == points((1, 9), (3, 7)), "on the line between the ends"
    bent = points((10, 100), (11, 60), (12, 59.9), (20, 50))
    assert thin(bent) == points((10, 100), (11, 60), (20, 50))


def test_layers_behind_one_another_add_up_and_keep_their_mappings() -> None:
    first = (Point(1, 10, {"a": Mapping()}), Point(2, 5, {"a": Mapping()}))
    total = after_another([first, (Point(3, 1, {"b": Mapping()}),)])
    assert [(each.cycles, each.energy) for each in total] == [(4, 11), (5, 6)]
    assert set(total[0].mappings) == {"a", "b"}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_sum_of_fronts_is_as_good_as_the_best_of_each(count: int) -> None:
    front = points((10, 100), (11, 60), (20, 50))
    total = after_another([front] * count)
    assert total[0].cycles == 10 * count
    assert total[-1].energy == 50 * count
