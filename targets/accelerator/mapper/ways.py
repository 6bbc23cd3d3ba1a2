"""Ways: how the iterations of one dimension are split over the places where its loops may be.

From the innermost place outwards: into tiles of f iterations, where no smaller f makes as few of them, then
the number of tiles in the same way, and what is left runs at the outermost place. So sizes need not divide n,
and there are about 2 sqrt(n) of them in place of n.
"""

from collections import Counter
from functools import lru_cache
from math import inf

import numpy as np
from numpy.typing import NDArray

from tersor.targets.accelerator.nest import Sizes

WASTES = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, inf)  # iterations that are made, over those there are


@lru_cache(maxsize=4096)
def splits(size: int) -> tuple[int, ...]:
    """The sizes of tiles of `size` iterations, each the smallest for its number of tiles.

    >>> splits(5)
    (1, 2, 3, 5)
    """
    return tuple(sorted({-(-size // tiles) for tiles in range(1, size + 1)}))


def count_ways(size: int, most: tuple[int, ...], ragged: bool = True) -> int:
    """How many ways there are to split `size` over the outermost place and others of `most` iterations.

    Those that are not `ragged` have full tiles only.
    """
    counts = Counter({size: 1})
    for limit in reversed(most):
        found: Counter[int] = Counter()
        for left, count in counts.items():
            for tile in splits(left):
                if tile <= limit and (ragged or left % tile == 0):
                    found[-(-left // tile)] += count
        counts = found
    return counts.total()


def ways(size: int, most: tuple[int, ...], waste: float = inf) -> Sizes:
    """All ways [places, ways] to split `size` that make at most `waste` times as many iterations.

    Places are the outermost first, and `most` says how many iterations each but the first may have.
    """
    found = np.array([[float(size)]])
    for limit in reversed(most):
        parts: list[NDArray[np.float64]] = []
        for left in np.unique(found[0]):
            here = found[:, found[0] == left]
            tiles = np.array([tile for tile in splits(int(left)) if tile <= limit], np.float64)
            turns = np.ceil(left / tiles)
            made = here[1:].prod(axis=0)[:, None] * (turns * tiles)
            column, tile = np.nonzero(made <= waste * size)
            parts.append(np.vstack([turns[tile], tiles[tile], here[1:, column]]))
        found = np.concatenate(parts, axis=1)
    return found


def least_wasteful(
    size: int, most: tuple[int, ...], count: int, random: np.random.Generator, most_waste: float = inf
) -> Sizes:
    """At most `count` ways that make the fewest iterations too many, of equal ones some at random.

    The first leaves it whole at the outermost place; the others begin with those of the least waste.
    """
    found = np.empty((0, 0))
    for waste in (each for each in WASTES if each <= most_waste):
        found = ways(size, most, waste)
        if found.shape[1] >= count:
            break
    whole = found[0] == size
    order = np.lexsort((random.random(found.shape[1]), found.prod(axis=0), ~whole))
    return found[:, order[:count]]
