"""Exact: the best policy of the additive model, within the loss that the trials say keeps the drop."""

from collections.abc import Sequence
from dataclasses import dataclass

from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import Figure, Limits, figure_of, limits_of, modelled
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import reachable, solve
from tersor.scheduler.strategies.bisection import Bisection
from tersor.scheduler.trial import Trial

# Relative: what two sums may differ by and be equal.
EQUAL = 1e-9


@dataclass(frozen=True)
class Exact:
    """Schemes and mappings chosen together, by an exact knapsack for each loss that a bisection asks for.

    Without a bound on the drop there is one proposal. Limits that nothing keeps are raised to the least that
    something does, so there is one always. It ends after `most` trials of its own at the latest.
    """

    most: int = 10
    name: str = "exact"

    def propose(self, problem: Problem, contract: Contract, trials: Sequence[Trial]) -> Policy | None:
        """Give the policy to try next; None when the bracket is tight."""
        limits = reachable(problem, limits_of(contract))
        figure = modelled(contract.minimize)
        if contract.max_drop is None or figure == "loss":
            policy = solve(problem, figure, limits).policy
            return None if any(trial.policy == policy for trial in trials) else policy
        path = Efficient(problem, figure, limits)
        return Bisection(problem, path, contract.max_drop, self.most).next(trials)


@dataclass(frozen=True)
class Efficient:
    """The policies that take the least of a figure for their loss; `limits` are such that one keeps them."""

    problem: Problem
    figure: Figure
    limits: Limits

    @property
    def least(self) -> float:
        """The least loss that a policy within the limits has."""
        return solve(self.problem, "loss", self.limits).value

    def free(self) -> Policy:
        """The policy that takes the least with whatever loss."""
        return solve(self.problem, self.figure, self.limits).policy

    def within(self, loss: float) -> Policy:
        """The policy that takes the least with at most this loss."""
        return solve(self.problem, self.figure, {**self.limits, "loss": loss}).policy

    def takes(self, policy: Policy) -> float:
        """The figure."""
        return figure_of(self.problem.cost(policy), self.problem.loss(policy), self.figure)

    def has(self, policy: Policy) -> bool:
        """Whether it keeps the limits, and no other policy takes less with as little loss."""
        cost, loss = self.problem.cost(policy), self.problem.loss(policy)
        kept = all(figure_of(cost, loss, figure) <= limit for figure, limit in self.limits.items())
        return kept and self.takes(policy) <= self.takes(self.within(loss)) * (1 + EQUAL)
