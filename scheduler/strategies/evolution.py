"""Evolution: policies bred from the best of the trials, a baseline (Real et al., AAAI 2019; HAQ's and MOHAQ's
searches over precisions are of this kind)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.strategies.random_search import by_chance, drawn
from tersor.scheduler.trial import Trial


@dataclass(frozen=True)
class Evolution:
    """Random policies until there are `parents`; then children of two of the best `parents` trials, each
    group's choice of one or the other, and about one group in `mutation` drawn anew."""

    seed: int = 0
    parents: int = 4
    mutation: float = 8.0
    name: str = "evolution"

    def __post_init__(self) -> None:
        if self.parents < 2 or not self.mutation >= 1:
            raise ValueError(
                f"two parents and a mutation of 1 at least, got {self.parents} and {self.mutation}"
            )

    def propose(self, problem: Problem, contract: Contract, trials: Sequence[Trial]) -> Policy | None:
        """Give a child that keeps the bounds that the model knows of, if one is bred."""
        random = np.random.default_rng([self.seed, len(trials)])
        if len(trials) < self.parents:
            return drawn(problem, contract, trials, lambda: by_chance(problem, random))
        best = sorted(trials, key=lambda trial: _fitness(trial, contract))[: self.parents]

        def child() -> Policy:
            mother, father = random.choice(len(best), 2, replace=False)
            return self._bred(problem, best[mother].policy, best[father].policy, random)

        return drawn(problem, contract, trials, child)

    def _bred(self, problem: Problem, mother: Policy, father: Policy, random: np.random.Generator) -> Policy:
        policy: dict[str, Choice] = {}
        for name in sorted(problem.choices):
            choice = (mother if random.uniform() < 0.5 else father)[name]
            if random.uniform() * self.mutation < 1:
                row = problem.choices[name]
                choice = row[int(random.integers(len(row)))]
            policy[name] = choice
        return policy


def _fitness(trial: Trial, contract: Contract) -> tuple[float, float]:
    """The least first: what keeps the contract, by what it takes; the rest by how far they are from it."""
    excess = max(contract.broken(trial.cost, trial.measured.drop).values(), default=0.0)
    return excess, quantity_of(trial.cost, trial.measured.drop, contract.minimize)
