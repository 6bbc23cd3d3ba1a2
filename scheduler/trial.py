"""Trial: a policy that was evaluated on real data, and the two interfaces of a search.

A strategy says which policy to try next, an evaluator what it does to the network (Generator and Evaluator of
neural architecture search). Both are asked by the one loop that keeps the budget and the journal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tersor.cost import Cost
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Policy, Problem
from tersor.scheme import Scheme


@dataclass(frozen=True)
class Measured:
    """What a network with compressed layers does on the evaluation samples, beside fp32.

    `drop` are points of accuracy lost, or of agreement where there are no labels; `loss` is the noise power
    over the signal power of the worst output, of which layers' losses are additive parts.
    """

    drop: float
    loss: float
    samples: int


@dataclass(frozen=True)
class Trial:
    """A policy with its cost by the model and what was measured of it."""

    policy: Policy
    cost: Cost
    measured: Measured

    def keeps(self, contract: Contract) -> bool:
        """Whether it is within all bounds."""
        return not contract.broken(self.cost, self.measured.drop)


class Evaluator(Protocol):
    """Measures schemes on real data, without compiling the network again."""

    def loss(self, layers: Sequence[str], scheme: Scheme) -> float:
        """The loss if these layers alone get the scheme."""
        ...

    def evaluate(self, schemes: Mapping[str, Scheme]) -> Measured:
        """Measure a network whose layers have these schemes, all others fp32."""
        ...


class Strategy(Protocol):
    """Says what to try next."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def propose(self, problem: Problem, contract: Contract, trials: Sequence[Trial]) -> Policy | None:
        """Give a policy that is not among `trials`, or None if there is nothing worth a trial any more.

        It depends on its arguments and the strategy's seed alone.
        """
        ...
