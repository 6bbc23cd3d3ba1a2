"""A search without budget, journal and network: what a strategy proposes is measured by a formula."""

from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.problem import Problem
from tersor.scheduler.trial import Evaluator, Strategy, Trial


def search(
    strategy: Strategy, problem: Problem, contract: Contract, evaluator: Evaluator, most: int = 10
) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < most and (policy := strategy.propose(problem, contract, trials)):
        assert all(trial.policy != policy for trial in trials)
        measured = evaluator.evaluate(problem.schemes(policy))
        trials.append(Trial(policy, problem.cost(policy), measured))
    return trials


def best(trials: list[Trial], contract: Contract) -> float | None:
    """The least of what is minimised, of the trials that keep the contract."""
    kept = [trial for trial in trials if trial.keeps(contract)]
    values = [quantity_of(trial.cost, trial.measured.drop, contract.minimize) for trial in kept]
    return min(values, default=None)
