import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tersor.scheduler.contract import Contract, Quantity
from tersor.scheduler.figures import modelled
from tersor.scheduler.problem import Problem
from tersor.scheduler.search import solve
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.trial import Measured, Trial
from tersor.scheme import Scheme
from tests.scheduler.spaces import Everything, Interacting, space
from tests.scheduler.strategies.running import best, search


@dataclass(frozen=True, eq=False)
class Additive:
    """A network whose losses add up, times `scale`, and whose drop is `points` for each of loss."""

    problem: Problem
    scale: float = 1.0
    points: float = 100.0

    def loss(self, layers: Sequence[str], scheme: Scheme) -> float:
        return next(each.loss for each in self.problem.choices[layers[0]] if each.scheme == scheme)

    def evaluate(self, schemes: Mapping[str, Scheme]) -> Measured:
        loss = self.scale * sum(self.loss([name], scheme) for name, scheme in schemes.items())
        return Measured(loss * self.points, loss, 1000)


@pytest.mark.parametrize("seed", range(20))
def test_where_losses_add_up_the_optimum_of_the_measured_bound_is_nearly_reached(seed: int) -> None:
    problem, scale = space(seed, mappings=2), (0.2, 1.0, 7.0)[seed % 3]
    everything = Everything(problem)
    losses = everything.figures("loss")
    max_drop = float(np.quantile(losses, 0.02 + 0.03 * (seed % 8))) * 100 * scale
    minimize: Quantity = "edp" if seed % 10 == 0 else ("energy", "latency", "size")[seed % 3]
    contract = Contract(minimize, max_drop=max_drop)
    trials = search(Exact(), problem, contract, Additive(problem, scale), most=30)
    assert len(trials) <= 10
    ideal = everything.best(modelled(minimize), {"loss": max_drop / 100 / scale})
    found = best(trials, contract)
    assert found is not None
    assert ideal is not None
    assert found <= ideal * 1.02


@pytest.mark.parametrize("seed", range(20))
def test_where_they_do_not_add_up_few_policies_that_keep_the_bound_take_less(seed: int) -> None:
    problem = space(seed, mappings=1)
    evaluator = Interacting(problem, seed)
    everything = Everything(problem)
    drops = everything.drops(evaluator)
    max_drop = float(np.quantile(drops, 0.1))
    contract = Contract("energy", max_drop=max_drop)
    found = best(search(Exact(), problem, contract, evaluator), contract)
    assert found is not None
    energies = everything.figures("energy")[drops <= max_drop]
    assert found <= 1.15 * energies.min()
    assert (energies < found).mean() < 0.02


def test_without_a_bound_on_the_drop_there_is_one_proposal() -> None:
    problem = space(1)
    latency = 2 * solve(problem, "latency").value
    trials = search(Exact(), problem, Contract("energy", max_latency=latency), Interacting(problem))
    assert [trial.cost.energy for trial in trials] == [solve(problem, "energy", {"latency": latency}).value]


def test_the_least_drop_is_looked_for_by_the_loss() -> None:
    problem = space(1)
    size = 1.3 * solve(problem, "size").value
    trials = search(Exact(), problem, Contract("drop", max_size=int(size)), Interacting(problem))
    assert [problem.loss(trial.policy) for trial in trials] == [
        solve(problem, "loss", {"size": int(size)}).value
    ]


def test_bounds_that_nothing_keeps_still_give_a_proposal() -> None:
    problem = space(2)
    least = solve(problem, "latency").value
    contract = Contract("energy", max_drop=0.5, max_latency=least / 2)
    trials = search(Exact(), problem, contract, Interacting(problem))
    assert 1 <= len(trials) <= 10
    closest = min(trials, key=lambda trial: trial.cost.seconds)
    assert contract.broken(closest.cost, 0.0) == {"latency": pytest.approx(2)}


def test_a_drop_that_nothing_keeps_ends_at_the_least_loss() -> None:
    problem = space(2)
    trials = search(Exact(), problem, Contract("energy", max_drop=0.0), Additive(problem))
    losses = [problem.loss(trial.policy) for trial in trials]
    assert min(losses) == solve(problem, "loss").value
    assert len(trials) <= 10


def test_a_drop_that_everything_keeps_ends_at_the_best_of_all() -> None:
    problem = space(2)
    trials = search(Exact(), problem, Contract("edp", max_drop=90.0), Additive(problem))
    assert best(trials, Contract("edp", max_drop=90.0)) == solve(problem, "edp").value


def test_other_trials_say_where_to_begin() -> None:
    problem = space(5)
    evaluator = Additive(problem, scale=40.0)
    bound = float(np.quantile(Everything(problem).figures("loss"), 0.2)) * 40.0 * 100
    contract = Contract("energy", max_drop=bound)
    cold = search(Exact(), problem, contract, evaluator)
    mild = {name: row[0] for name, row in problem.choices.items()}
    known = Trial(mild, problem.cost(mild), evaluator.evaluate(problem.schemes(mild)))
    warm = Exact().propose(problem, contract, [known])
    assert warm is not None
    drops = [evaluator.evaluate(problem.schemes(p)).drop for p in (cold[0].policy, warm)]
    assert abs(drops[1] - bound) < abs(drops[0] - bound)


def proposals() -> str:
    problem = space(7)
    trials = search(Exact(), problem, Contract("energy", max_drop=6.0), Interacting(problem))
    return "\n".join(f"{trial.cost.energy!r} {trial.measured.drop!r}" for trial in trials)


def test_two_processes_with_different_hash_seeds_propose_the_same() -> None:
    code = "from tests.scheduler.strategies.test_exact import proposals; print(proposals(), end='')"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {proposals().encode()}
