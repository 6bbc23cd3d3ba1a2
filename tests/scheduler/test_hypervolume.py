import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.scheduler.hypervolume import dominates, hypervolume, nondominated

POINTS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=6)


def counted(points: list[tuple[int, ...]], side: int) -> int:
    """The cells of a grid that some point dominates."""
    cells = np.indices((side,) * 3).reshape(3, -1).T
    return int(sum(any((cell >= point).all() for point in points) for cell in cells))


def test_two_figures() -> None:
    assert hypervolume([(1.0, 3.0), (2.0, 1.0)], (4.0, 4.0)) == pytest.approx(3 + 2 * 3 - 2)


@given(POINTS)
def test_three_figures_are_as_many_cells(points: list[tuple[int, ...]]) -> None:
    assert hypervolume(points, (6, 6, 6)) == counted(points, 6)


@given(POINTS)
def test_what_is_dominated_adds_nothing(points: list[tuple[int, ...]]) -> None:
    front = [points[place] for place in nondominated(points)]
    assert hypervolume(front, (6, 6, 6)) == hypervolume(points, (6, 6, 6))
    assert not any(dominates(one, other) for one in points for other in front)


def test_worse_than_the_reference_is_worth_nothing() -> None:
    assert hypervolume([(5.0, 1.0)], (4.0, 4.0)) == 0.0
    assert hypervolume([], (4.0, 4.0)) == 0.0


def test_points_and_reference_have_the_same_figures() -> None:
    with pytest.raises(ValueError, match="as many figures as the reference, 2"):
        hypervolume([(1.0, 1.0, 1.0)], (4.0, 4.0))
