"""All strategies: what holds of each, and what the exact one is for."""

import pytest

from tersor.scheduler.ablations import mapping_only
from tersor.scheduler.bit_operations import bit_operations
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Problem
from tersor.scheduler.search import solve
from tersor.scheduler.strategies.evolution import Evolution
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.strategies.random_search import RandomSearch
from tersor.scheduler.strategies.sequential import Sequential
from tersor.scheduler.strategies.uniform import Uniform
from tersor.scheduler.trial import Strategy, Trial
from tests.scheduler.spaces import Interacting, network, space
from tests.scheduler.strategies.running import best, search

CONTRACT = Contract("edp", max_drop=6.0)


def strategies(problem: Problem) -> tuple[Strategy, ...]:
    return (Exact(), Sequential(network(problem)), Uniform(), RandomSearch(), Evolution())


@pytest.mark.parametrize("place", range(5))
def test_a_strategy_depends_on_its_arguments_alone(place: int) -> None:
    problem = space(4, mappings=2)
    first, again = (
        search(strategies(problem)[place], problem, CONTRACT, Interacting(problem)) for _ in range(2)
    )
    assert [trial.policy for trial in first] == [trial.policy for trial in again]
    # A search that was ended in between goes on as if it had not been.
    half = first[: len(first) // 2]
    rest = strategies(problem)[place].propose(space(4, mappings=2), CONTRACT, half)
    assert rest == (first[len(half)].policy if len(first) > len(half) else None)


@pytest.mark.parametrize("place", range(5))
def test_bounds_that_the_model_knows_of_are_kept(place: int) -> None:
    problem = space(4, mappings=2)
    least = solve(problem, "latency").value
    contract = Contract("energy", max_drop=1.5, max_latency=2 * least)
    trials = search(strategies(problem)[place], problem, contract, Interacting(problem))
    assert trials
    kept = [trial for trial in trials if trial.cost.seconds <= 2 * least]
    assert len(kept) == len(trials) or strategies(problem)[place].name in ("uniform", "sequential")


def test_the_exact_strategy_takes_less_than_the_baselines_after_as_many_trials() -> None:
    wins: dict[str, list[float]] = {}
    for seed in range(4):
        problem = space(seed, layers=8, mappings=2)
        found: dict[str, float | None] = {}
        for strategy in strategies(problem):
            found[strategy.name] = best(
                search(strategy, problem, CONTRACT, Interacting(problem, seed)), CONTRACT
            )
        exact = found.pop("exact")
        for name, other in found.items():
            if exact is not None and other is not None:
                wins.setdefault(name, []).append(other / exact)
    for name, ratios in wins.items():
        assert min(ratios) > 0.97, name
        assert sum(ratios) / len(ratios) > 1.05, name


def test_seeds_make_different_searches() -> None:
    problem = space(4)
    for strategy in (RandomSearch, Evolution):
        one, other = (search(strategy(seed), problem, CONTRACT, Interacting(problem)) for seed in (0, 1))
        assert [trial.policy for trial in one] != [trial.policy for trial in other]


def test_evolution_gets_better_than_chance() -> None:
    ratios = []
    for seed in range(6):
        problem = space(seed)
        evaluator = Interacting(problem, seed)
        found = [
            best(search(strategy, problem, CONTRACT, evaluator, most=60), CONTRACT)
            for strategy in (RandomSearch(seed), Evolution(seed))
        ]
        if found[0] and found[1]:
            ratios.append(found[0] / found[1])
    assert sum(ratios) / len(ratios) > 1


def test_uniform_ends_with_the_first_scheme_that_keeps_the_contract() -> None:
    problem = space(4)
    trials = search(Uniform(), problem, CONTRACT, Interacting(problem))
    assert [trial.keeps(CONTRACT) for trial in trials] == [False] * (len(trials) - 1) + [True]
    assert all(len(set(problem.schemes(trial.policy).values())) == 1 for trial in trials)
    values = [trial.cost.seconds * trial.cost.energy for trial in trials]
    assert values == sorted(values)


def test_the_sequential_strategy_maps_the_schemes_of_the_fewest_bit_operations() -> None:
    problem = space(4)
    layers = network(problem)
    trials = search(Sequential(layers), problem, CONTRACT, Interacting(problem))
    for trial in trials:
        same = problem.only(lambda name, each, policy=trial.policy: each.scheme == policy[name].scheme)
        assert trial.cost.seconds * trial.cost.energy == pytest.approx(solve(same, "edp").value)
        loss = problem.loss(trial.policy)
        operations = {
            name: [bit_operations(layers[name], each.scheme) for each in row]
            for name, row in problem.choices.items()
        }
        mine = sum(bit_operations(layers[name], choice.scheme) for name, choice in trial.policy.items())
        assert mine <= fewest(problem, operations, loss) * (1 + 1e-9)


def fewest(problem: Problem, operations: dict[str, list[float]], loss: float) -> float:
    """By brute force, keeping of all partial policies those that no other beats in both."""
    states = [(0.0, 0.0)]
    for name, row in problem.choices.items():
        grown = sorted(
            {
                (done + count, lost + each.loss)
                for done, lost in states
                for count, each in zip(operations[name], row, strict=True)
            }
        )
        states = []
        for done, lost in grown:
            if lost <= loss * (1 + 1e-12) and (not states or lost < states[-1][1]):
                states.append((done, lost))
    return states[0][0]


def test_without_compression_the_exact_strategy_only_maps() -> None:
    problem = space(4)
    trials = search(Exact(), mapping_only(problem), CONTRACT, Interacting(problem))
    widest = {str(scheme) for trial in trials for scheme in problem.schemes(trial.policy).values()}
    assert widest == {"int8"}


def test_trials_of_other_strategies_do_no_harm() -> None:
    problem = space(4, mappings=2)
    evaluator = Interacting(problem)
    others = search(RandomSearch(), problem, CONTRACT, evaluator, most=5)
    trials: list[Trial] = list(others)
    while (policy := Exact().propose(problem, CONTRACT, trials)) and len(trials) < 20:
        measured = evaluator.evaluate(problem.schemes(policy))
        trials.append(Trial(policy, problem.cost(policy), measured))
    alone = best(search(Exact(), problem, CONTRACT, evaluator), CONTRACT)
    together = best(trials, CONTRACT)
    assert alone is not None
    assert together is not None
    assert together <= alone * 1.01
