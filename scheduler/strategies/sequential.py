"""Sequential: compression first, by its bit-operations, then mappings for what was chosen.

This is how a compression tool and a mapper work one after the other. It has the same bound, the same trials
and the same mapper as the exact strategy, and differs from it in that one point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np

from tersor.network import Network
from tersor.scheduler.ablations import mapped
from tersor.scheduler.bit_operations import bit_operations
from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import Figure, Limits, figure_of, limits_of, modelled
from tersor.scheduler.knapsack import Knapsack
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.strategies.bisection import Bisection
from tersor.scheduler.strategies.exact import EQUAL
from tersor.scheduler.trial import Trial

_OPERATIONS, _LOSS, _SIZE = range(3)


@dataclass(frozen=True)
class Sequential:
    """Schemes of the fewest bit-operations within the loss, then the best mappings of these schemes.

    `network` has the layers of the problem. A bound on the size is kept by the schemes, those on time and
    energy by the mappings if they can. It ends after `most` trials of its own at the latest.
    """

    network: Network
    most: int = 10
    name: str = "sequential"

    def propose(self, problem: Problem, contract: Contract, trials: Sequence[Trial]) -> Policy | None:
        """Give the policy to try next; None when the bracket is tight."""
        figure = modelled(contract.minimize)
        path = _FewestOperations(problem, self.network, figure, limits_of(contract))
        if contract.max_drop is not None and figure != "loss":
            return Bisection(problem, path, contract.max_drop, self.most).next(trials)
        policy = path.within(path.least) if figure == "loss" else path.free()
        return None if any(trial.policy == policy for trial in trials) else policy


def fewest_operations(problem: Problem, network: Network, figure: Figure, loss: float) -> Policy:
    """The schemes with the fewest bit-operations that lose at most so much, mapped for `figure`.

    Raises ValueError if none lose so little.
    """
    return _FewestOperations(problem, network, figure, {}).within(loss)


@dataclass(frozen=True)
class _FewestOperations:
    """The path of the policies with the fewest bit-operations for their loss, each mapped for `figure`."""

    problem: Problem
    network: Network
    figure: Figure
    limits: Limits

    @property
    def least(self) -> float:
        return float(self._table.totals(self._pick(_LOSS, inf))[_LOSS])

    def free(self) -> Policy:
        return self.within(inf)

    def within(self, loss: float) -> Policy:
        limits = tuple(sorted(self.limits.items()))
        question = ("sequential", self._operations, self.figure, limits, loss)
        return self.problem.once(question, lambda: self._mapped(self._pick(_OPERATIONS, loss)))

    def takes(self, policy: Policy) -> float:
        return float(self._table.totals(self._options(policy))[_OPERATIONS])

    def has(self, policy: Policy) -> bool:
        fewest = self.within(self.problem.loss(policy))
        if self.takes(policy) > self.takes(fewest) * (1 + EQUAL):
            return False
        options = self._options(policy)
        return self._cost(policy) <= self._cost(self._mapped(options)) * (1 + EQUAL)

    @cached_property
    def _schemes(self) -> tuple[tuple[Choice, ...], ...]:
        """One choice of each scheme of each group, the groups by name."""
        rows = (self.problem.choices[name] for name in sorted(self.problem.choices))
        return tuple(tuple({each.scheme: each for each in row}.values()) for row in rows)

    @cached_property
    def _operations(self) -> tuple[tuple[float, ...], ...]:
        groups = (self.problem.groups[name] for name in sorted(self.problem.choices))
        return tuple(
            tuple(sum(bit_operations(self.network[layer], each.scheme) for layer in group) for each in row)
            for group, row in zip(groups, self._schemes, strict=True)
        )

    @cached_property
    def _table(self) -> Knapsack:
        rows = [
            np.array([(count, each.loss, each.cost.size) for count, each in zip(counts, row, strict=True)])
            for counts, row in zip(self._operations, self._schemes, strict=True)
        ]
        return Knapsack(tuple(rows), np.array([0.0, 0.0, self.problem.rest.size]))

    def _pick(self, minimised: int, loss: float) -> tuple[int, ...]:
        weights = np.zeros(3)
        weights[minimised] = 1.0
        size = max(self.limits.get("size", inf), float(self._table.least[_SIZE]))
        pick = self._table.minimise(weights, np.array([inf, loss, size]))
        if pick is None:
            raise ValueError(f"no schemes have a loss of at most {loss:g} in {size:g} bytes")
        return pick.options

    def _options(self, policy: Policy) -> tuple[int, ...]:
        return tuple(
            [each.scheme for each in row].index(policy[name].scheme)
            for name, row in zip(sorted(self.problem.choices), self._schemes, strict=True)
        )

    def _mapped(self, options: tuple[int, ...]) -> Policy:
        """The best mappings of the schemes picked."""
        picked = dict(zip(sorted(self.problem.choices), options, strict=True))
        rows = dict(zip(sorted(self.problem.choices), self._schemes, strict=True))
        kept = mapped(self.problem, {name: rows[name][place] for name, place in picked.items()})
        return closest(kept, self.figure, self.limits).policy

    def _cost(self, policy: Policy) -> float:
        return figure_of(self.problem.cost(policy), self.problem.loss(policy), self.figure)
