from itertools import pairwise

import numpy as np
import pytest

from tersor.targets.accelerator.mapper.ways import count_ways, least_wasteful, splits, ways


@pytest.mark.parametrize("size", [1, 7, 12, 100])
def test_tiles_are_the_smallest_for_their_number(size: int) -> None:
    counts = [-(-size // tile) for tile in range(1, size + 1)]
    assert splits(size) == tuple(1 + counts.index(count) for count in sorted(set(counts), reverse=True))


@pytest.mark.parametrize(("size", "most"), [(1, (4,)), (5, (2, 5)), (12, (3, 12, 4)), (49, (49, 1, 49))])
def test_each_way_covers_all_and_stands_once(size: int, most: tuple[int, ...]) -> None:
    found = ways(size, most)
    assert found.shape == (len(most) + 1, count_ways(size, most))
    assert len(set(map(tuple, found.T))) == found.shape[1]
    assert (found.prod(axis=0) >= size).all()
    assert (found[1:] <= np.array(most)[:, None]).all()


def test_ways_of_no_waste_are_the_factors() -> None:
    assert sorted(map(tuple, ways(6, (6,), waste=1.0).T)) == [(1, 6), (2, 3), (3, 2), (6, 1)]


def test_of_too_many_ways_those_of_the_least_waste_stay() -> None:
    found = least_wasteful(28, (28, 16, 28), 100, np.random.default_rng(0))
    assert found.shape == (4, 100)
    assert found[:, 0].tolist() == [28, 1, 1, 1]
    made = found.prod(axis=0)
    assert all(before <= after for before, after in pairwise(made))
    every = np.sort(ways(28, (28, 16, 28)).prod(axis=0))
    assert made.tolist() == every[:100].tolist()
    assert found[:, made == 28].max(axis=1).tolist() == [28, 28, 14, 28], "tiles of all sizes at each place"


def test_fewer_ways_are_all_of_them() -> None:
    found = least_wasteful(7, (7, 7), 1000, np.random.default_rng(0))
    assert sorted(map(tuple, found.T)) == sorted(map(tuple, ways(7, (7, 7)).T))
