"""Spaces of which every policy can be tried: is what the search gives the best of all?"""

import sys
from pathlib import Path

import numpy as np
from rows import Row

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the spaces of the tests

from tersor.scheduler.figures import ADDITIVE, FIGURES, Figure
from tersor.scheduler.search import find
from tests.scheduler.spaces import Everything, space

CASES = 20
LAYERS = 6
EQUAL = 1e-9  # relative: sums of the same numbers in another order


def enumerable() -> list[Row]:
    """How many of `CASES` spaces of six layers with four schemes each are solved, by what is made least."""
    solved = dict.fromkeys(FIGURES, 0)
    gaps = [0.0]
    for seed in range(CASES):
        problem = space(seed, LAYERS, mappings=1 + seed % 3)
        everything = Everything(problem)
        for figure in FIGURES:
            limits = _limits(everything, seed, figure)
            best, found = everything.best(figure, limits), find(problem, figure, limits)
            if best is None or found is None:
                solved[figure] += best is None and found is None
                continue
            gaps.append(found.gap)
            solved[figure] += abs(found.value - best) <= EQUAL * best
    rows = [
        Row("search", "enumerable", f"{LAYERS} layers", figure, f"optima of {CASES}", count, CASES, ">=")
        for figure, count in solved.items()
    ]
    gap = Row("search", "enumerable", f"{LAYERS} layers", "all", "gap_%", 100 * max(gaps), 1.0, "<=")
    return [*rows, gap]


def _limits(everything: Everything, seed: int, minimised: Figure) -> dict[Figure, float]:
    """Limits on one to three figures, somewhere among what policies have."""
    random = np.random.default_rng(seed)
    figures = [figure for figure in ADDITIVE if figure != minimised]
    limited = random.permutation(len(figures))[: random.integers(1, 4)]
    quantile = random.uniform(0.05, 0.7)
    return {figures[i]: float(np.quantile(everything.figures(figures[i]), quantile)) for i in limited}
