"""Random search: policies by chance, a baseline (Bergstra and Bengio, JMLR 2012)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.trial import Trial

# Draws for one proposal: what the model says breaks the contract is not worth a trial.
_DRAWS = 500


@dataclass(frozen=True)
class RandomSearch:
    """How gentle a policy is is drawn first: uniform choices would have most layers compressed always.

    Of each group's choices by their loss, only that share may then be drawn.
    """

    seed: int = 0
    name: str = "random"

    def propose(self, problem: Problem, contract: Contract, trials: Sequence[Trial]) -> Policy | None:
        """Give a policy that keeps the bounds that the model knows of, if one is drawn."""
        random = np.random.default_rng([self.seed, len(trials)])
        return drawn(problem, contract, trials, lambda: by_chance(problem, random))


def by_chance(problem: Problem, random: np.random.Generator) -> Policy:
    """Draw a policy; the order of the groups does not matter."""
    share = random.uniform()
    policy: dict[str, Choice] = {}
    for name in sorted(problem.choices):
        row = sorted(problem.choices[name], key=lambda choice: choice.loss)
        gentle = max(1, round(share * len(row)))
        policy[name] = row[int(random.integers(gentle))]
    return policy


def drawn(
    problem: Problem, contract: Contract, trials: Sequence[Trial], draw: Callable[[], Policy]
) -> Policy | None:
    """The first draw that was not tried and keeps the bounds that the model knows of.

    If there is none, the draw that is nearest to keeping them; None if all draws were tried.
    """
    nearest: tuple[float, Policy] | None = None
    for _ in range(_DRAWS):
        policy = draw()
        if any(trial.policy == policy for trial in trials):
            continue
        excess = max(contract.broken(problem.cost(policy), 0.0).values(), default=0.0)
        if not excess:
            return policy
        if nearest is None or excess < nearest[0]:
            nearest = excess, policy
    return nearest[1] if nearest else None
