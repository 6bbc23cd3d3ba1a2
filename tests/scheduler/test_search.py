import itertools
from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.scheduler.search import Option, choose

ROW = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4)
PROBLEM = st.lists(ROW, min_size=1, max_size=5)


def options(rows: list[list[tuple[int, int]]], unit: float = 1.0) -> dict[str, list[Option[int]]]:
    return {
        f"layer{i}": [Option(j, cost * unit, load * unit) for j, (cost, load) in enumerate(row)]
        for i, row in enumerate(rows)
    }


@settings(max_examples=60, deadline=None)
@given(PROBLEM, st.integers(0, 60), st.sampled_from([1.0, 2.0**-30, 2.0**30]))
def test_the_choice_is_as_good_as_the_best_of_all(rows: list, limit: int, unit: float) -> None:
    everything = [
        fsum(cost for cost, _ in pick)
        for pick in itertools.product(*rows)
        if fsum(b for _, b in pick) <= limit
    ]
    if not everything:
        with pytest.raises(UserError, match="no plan keeps the load"):
            choose(options(rows, unit), limit * unit)
        return
    solution = choose(options(rows, unit), limit * unit)
    assert solution.cost == pytest.approx(min(everything) * unit)
    assert solution.load <= limit * unit
    picked = [rows[i][solution.chosen[f"layer{i}"]] for i in range(len(rows))]
    assert solution.cost == fsum(cost for cost, _ in picked) * unit
    assert solution.load == fsum(load for _, load in picked) * unit


def test_the_certificate_bounds_the_cost() -> None:
    solution = choose(options([[(9, 0), (4, 3), (1, 7)]] * 6), 20)
    assert solution.bound == pytest.approx(solution.cost)
    assert solution.gap == pytest.approx(0)
    assert "Optimal" in solution.status


@given(PROBLEM, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_layers_does_not_matter(rows: list, random) -> None:
    problem = list(options(rows).items())
    shuffled = random.sample(problem, len(problem))
    assert choose(dict(problem), 100) == choose(dict(shuffled), 100)


def test_a_limit_below_what_is_possible_names_the_least_and_the_layers_that_need_most() -> None:
    with pytest.raises(UserError, match=r"noise at or below 5: .* is 9 \(most of it: layer1 7, layer0 2\)"):
        choose(options([[(1, 2), (0, 3)], [(1, 7)]]), 5, "noise")


def test_a_limit_that_is_no_number_is_refused() -> None:
    for limit in (float("nan"), float("inf"), -1.0):
        with pytest.raises(UserError, match="must be a finite number >= 0"):
            choose(options([[(1, 1)]]), limit)


def test_a_layer_without_options_is_named() -> None:
    with pytest.raises(UserError, match="'fc' has no scheme"):
        choose({"fc": []}, 1.0)


def test_a_limit_is_kept_exactly_though_the_solver_has_a_tolerance() -> None:
    problem = {"fc": [Option("cheap", 0.0, 1.0 + 1e-9), Option("dear", 1.0, 0.5)]}
    assert choose(problem, 1.0).chosen == {"fc": "dear"}
    two = {name: [Option("cheap", 0.0, 0.5 + 1e-9), Option("dear", 1.0, 0.25)] for name in ("a", "b")}
    assert choose(two, 1.0).load <= 1.0
    assert choose(two, 1.0).cost == 1.0
