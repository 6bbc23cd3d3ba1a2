"""Uniform: one scheme for the whole network, the best that keeps the contract, each mapped exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

from tersor.scheduler.ablations import schemes_of, uniform
from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import figure_of, limits_of, modelled
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.trial import Trial


@dataclass(frozen=True)
class Uniform:
    """All schemes of the problem one after the other, what takes the least first, until one keeps the
    contract. Layers that may not have a scheme get the next wider one."""

    name: str = "uniform"

    def propose(self, problem: Problem, contract: Contract, trials: Sequence[Trial]) -> Policy | None:
        """Give the next; None when one kept the contract or all were tried."""
        for policy in _in_order(problem, contract):
            tried = next((trial for trial in trials if trial.policy == policy), None)
            if tried is None:
                return policy
            if tried.keeps(contract):
                return None
        return None


def _in_order(problem: Problem, contract: Contract) -> list[Policy]:
    figure, limits = modelled(contract.minimize), limits_of(contract)
    found = [closest(uniform(problem, scheme), figure, limits) for scheme in schemes_of(problem)]

    def rank(place: int) -> tuple[float, float, int]:
        solution = found[place]
        excess = max(contract.broken(solution.cost, 0.0).values(), default=0.0)
        return excess, figure_of(solution.cost, solution.loss, figure), place

    return [found[place].policy for place in sorted(range(len(found)), key=rank)]
