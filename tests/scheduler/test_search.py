import itertools
from dataclasses import replace
from math import fsum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.cost import Cost
from tersor.error import UserError
from tersor.scheduler import knapsack
from tersor.scheduler.figures import ADDITIVE, FIGURES, Figure
from tersor.scheduler.problem import Choice, Problem
from tersor.scheduler.search import closest, find, infeasibility, reachable, solve
from tersor.scheme import FP32, INT8, Scheme
from tests.scheduler.spaces import Everything, policies, space

ROW = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4)
ROWS = st.lists(ROW, min_size=1, max_size=5)


def problem_of(rows: list[list[tuple[float, float]]], unit: float = 1.0) -> Problem:
    """Choices of (energy, loss)."""
    choices = {
        f"layer{i}": tuple(Choice(FP32, Cost(energy=energy * unit), loss * unit) for energy, loss in row)
        for i, row in enumerate(rows)
    }
    return Problem(choices, {name: (name,) for name in choices})


def random_limits(everything: Everything, seed: int, minimised: Figure) -> dict[Figure, float]:
    """Limits on up to three figures, somewhere among what policies have, so that most sets can be kept."""
    random = np.random.default_rng(seed)
    figures = [figure for figure in ADDITIVE if figure != minimised]
    limited = random.permutation(len(figures))[: random.integers(1, 4)]
    quantile = random.uniform(0.05, 0.7)
    return {figures[i]: float(np.quantile(everything.figures(figures[i]), quantile)) for i in limited}


@pytest.mark.parametrize("seed", range(20))
def test_six_layers_of_four_schemes_get_the_optimum_of_all_policies(seed: int) -> None:
    problem = space(seed, mappings=1 + seed % 2 + (seed % 10 == 3))
    everything = Everything(problem)
    for figure in FIGURES:
        limits = random_limits(everything, seed, figure)
        best = everything.best(figure, limits)
        if best is None:
            assert find(problem, figure, limits) is None
            continue
        solution = solve(problem, figure, limits)
        assert solution.value == pytest.approx(best, rel=1e-9)
        assert solution.bound <= best * (1 + 1e-9)
        assert solution.gap < 1e-6
        kept = {"latency": solution.cost.seconds, "energy": solution.cost.energy}
        kept |= {"size": solution.cost.size, "loss": solution.loss}
        assert all(kept[name] <= limit for name, limit in limits.items())


@pytest.mark.parametrize("seed", range(20))
def test_the_least_product_of_time_and_energy_is_found_though_it_is_no_sum(seed: int) -> None:
    problem = space(100 + seed, mappings=2)
    everything = Everything(problem)
    limits: dict[Figure, float] = {"loss": float(np.quantile(everything.figures("loss"), 0.3))}
    assert solve(problem, "edp", limits).value == pytest.approx(everything.best("edp", limits), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_inputs_are_no_narrower_than_those_of_what_reads_the_same_tensor(seed: int) -> None:
    schemes = [Scheme.parse(text) for text in ("int8", "w8a4", "w4a8", "int4")]
    random = np.random.default_rng(seed)
    free = space(seed, layers=5, schemes=schemes, mappings=2)
    names = list(free.choices)
    pairs = {tuple(random.choice(names, 2, replace=False)) for _ in range(1 + seed % 4)}
    no_narrower = {name: tuple(other for one, other in pairs if one == name) for name, _ in pairs}
    problem = replace(free, no_narrower=no_narrower)
    left = [
        policy
        for policy in policies(free)
        if all(policy[one].scheme.input_bits >= policy[other].scheme.input_bits for one, other in pairs)
    ]
    losses = [problem.loss(policy) for policy in left]
    limit = float(np.quantile(losses, 0.4))
    costs = [problem.cost(policy) for policy, loss in zip(left, losses, strict=True) if loss <= limit]
    for figure, best in (
        ("energy", min(cost.energy for cost in costs)),
        ("edp", min(cost.energy * cost.seconds for cost in costs)),
    ):
        solution = solve(problem, figure, {"loss": limit})  # type: ignore[arg-type]  # of the two
        assert solution.value == pytest.approx(best, rel=1e-9)
        assert solution.policy in left
    tight = {"loss": min(losses) / 2, "energy": min(cost.energy for cost in costs)}
    closest_of_all = min(
        max(problem.loss(policy) / tight["loss"], problem.cost(policy).energy / tight["energy"])
        for policy in left
    )
    found = closest(problem, "latency", tight)  # type: ignore[arg-type]
    assert found.policy in left
    excess = max(found.loss / tight["loss"], found.cost.energy / tight["energy"])
    assert excess == pytest.approx(closest_of_all, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 60), st.sampled_from([1.0, 2.0**-30, 2.0**30]))
def test_the_choice_is_as_good_as_the_best_of_all_in_any_unit(rows: list, limit: int, unit: float) -> None:
    picks = itertools.product(*rows)
    within = [fsum(energy for energy, _ in p) for p in picks if fsum(loss for _, loss in p) <= limit]
    solution = find(problem_of(rows, unit), "energy", {"loss": limit * unit})
    if solution is None:
        assert not within
        return
    assert solution.value == pytest.approx(min(within) * unit)
    assert solution.loss <= limit * unit
    assert solution.value == solution.cost.energy


def test_the_certificate_bounds_the_value() -> None:
    solution = solve(problem_of([[(9, 0), (4, 3), (1, 7)]] * 6), "energy", {"loss": 20})
    assert solution.bound == pytest.approx(solution.value)
    assert solution.gap == pytest.approx(0)
    assert "Optimal" in solution.status


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_groups_does_not_matter(rows: list, random) -> None:
    problem = problem_of(rows)
    names = random.sample(list(problem.choices), len(problem.choices))
    shuffled = Problem({name: problem.choices[name] for name in names}, {name: (name,) for name in names})
    assert find(problem, "energy", {"loss": 30}) == find(shuffled, "energy", {"loss": 30})


def test_the_rest_counts_too() -> None:
    row = (Choice(FP32, Cost(seconds=2.0, energy=1.0), 0.0), Choice(INT8, Cost(seconds=1.0, energy=2.5), 0.1))
    alone = Problem({"fc": row}, {"fc": ("fc",)})
    assert solve(alone, "edp").policy["fc"].scheme == FP32
    assert solve(Problem({"fc": row}, {"fc": ("fc",)}, Cost(energy=9.0)), "edp").policy["fc"].scheme == INT8
    assert find(Problem({"fc": row}, {"fc": ("fc",)}, Cost(energy=9.0)), "loss", {"energy": 9.9}) is None


def test_a_problem_without_groups_has_one_policy() -> None:
    solution = solve(Problem({}, {}, Cost(seconds=1.0, energy=2.0)), "edp", {"energy": 2.0})
    assert (solution.policy, solution.value, solution.gap) == ({}, 2.0, 0.0)


def test_a_limit_is_kept_exactly_though_the_solver_has_a_tolerance() -> None:
    problem = problem_of([[(0.0, 1.0 + 1e-11), (1.0, 0.5)]])
    assert solve(problem, "energy", {"loss": 1.0}).value == 1.0
    # Twenty layers: so many picks break the limit by less than the tolerance that not each can be forbidden.
    many = problem_of([[(0.0, 0.05 + 1e-14), (1.0, 0.01)]] * 20)
    solution = solve(many, "energy", {"loss": 1.0})
    assert solution.loss <= 1.0
    assert solution.value == 1.0


def test_what_a_policy_has_is_a_limit_that_it_keeps() -> None:
    problem = space(3)
    for seed in range(10):
        random = np.random.default_rng(seed)
        policy = {name: row[random.integers(len(row))] for name, row in problem.choices.items()}
        cost, loss = problem.cost(policy), problem.loss(policy)
        limits: dict[Figure, float] = {"latency": cost.seconds, "energy": cost.energy, "loss": loss}
        assert find(problem, "size", limits) is not None


def test_a_limit_below_what_is_possible_names_the_least_and_the_groups_that_need_most() -> None:
    problem = problem_of([[(1, 2), (0, 3)], [(1, 7)]])
    with pytest.raises(
        UserError, match=r"the loss at or below 5: .* is 9 \(most of it: layer1 7, layer0 2\)"
    ):
        solve(problem, "energy", {"loss": 5})


def test_limits_that_contradict_each_other_name_the_one_that_is_nearest_to_be_kept() -> None:
    problem = problem_of([[(10, 1), (5, 8)], [(10, 1), (4, 9)]])
    sentence = infeasibility(problem, {"energy": 13, "loss": 9})
    assert sentence is not None
    assert "no plan keeps the energy at or below 13 pJ together with at most loss 9" in sentence
    assert "the least possible is 15 pJ" in sentence
    assert infeasibility(problem, {"energy": 15, "loss": 9}) is None


def test_two_of_three_limits_that_contradict_each_other_are_found() -> None:
    rows = [[(10, 1), (5, 8)], [(10, 1), (4, 9)]]
    problem = problem_of(rows)
    sentence = infeasibility(problem, {"energy": 13, "loss": 9, "latency": 1.0})
    assert sentence is not None
    assert "energy" in sentence


def test_the_closest_policy_has_the_least_of_the_greatest_excess() -> None:
    for seed in range(10):
        problem = space(seed, mappings=2)
        everything = Everything(problem)
        limits: dict[Figure, float] = {
            name: float(everything.figures(name).min() * factor)
            for name, factor in (("latency", 1.1), ("loss", 1.2), ("energy", 0.9))
        }
        ratios = np.max([everything.figures(name) / limit for name, limit in limits.items()], axis=0)
        solution = closest(problem, "edp", limits)
        taken = {"latency": solution.cost.seconds, "loss": solution.loss, "energy": solution.cost.energy}
        assert max(taken[name] / limits[name] for name in limits) == pytest.approx(ratios.min(), rel=1e-6)


def test_limits_that_can_be_kept_are_not_raised() -> None:
    problem = problem_of([[(1, 2), (0, 3)], [(1, 7)]])
    assert reachable(problem, {"loss": 9.5, "energy": 2.0}) == {"loss": 9.5, "energy": 2.0}
    assert reachable(problem, {"loss": 0.0})["loss"] == pytest.approx(9)


def test_a_limit_that_is_no_number_is_refused() -> None:
    for limit in (float("nan"), float("inf"), -1.0):
        with pytest.raises(UserError, match="must be a finite number >= 0"):
            solve(problem_of([[(1, 1)]]), "energy", {"loss": limit})


@pytest.mark.parametrize("layers", [6, 60])
def test_a_certificate_takes_a_handful_of_programs_however_many_layers_there_are(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved, programs = knapsack._solved, 0

    def counted(*given: Any, **program: Any) -> Any:
        nonlocal programs
        programs += 1
        return solved(*given, **program)

    monkeypatch.setattr(knapsack, "_solved", counted)
    problem = space(0, layers=layers, mappings=5)
    free = solve(problem, "edp").loss
    programs = 0
    assert solve(problem, "edp", {"loss": free * 0.1}).gap <= 1e-9
    assert programs <= 16


def test_a_product_is_no_limit_and_a_drop_no_figure() -> None:
    with pytest.raises(ValueError, match="what can be limited is one of"):
        solve(problem_of([[(1, 1)]]), "energy", {"edp": 1.0})
    with pytest.raises(ValueError, match="minimize one of latency, energy, edp, size, loss"):
        solve(problem_of([[(1, 1)]]), "drop")  # type: ignore[arg-type]  # what a caller may get wrong
