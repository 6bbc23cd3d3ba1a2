"""Finalists: the best policies as integer libraries, whose figures decide.

A trial stands for the integer network; that one is what is emitted, so it is compiled, run on the same
samples, and taken if it keeps the contract.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from tersor.autoscheduler.budget import Budget
from tersor.autoscheduler.report import SearchedTensor
from tersor.compiler import Compiled
from tersor.cost import Cost
from tersor.plan import Plan
from tersor.report import Totals
from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.problem import Policy

MOST = 2  # the first keeps its contract nearly always


@dataclass(frozen=True)
class Candidate:
    """A policy that may be emitted, as a plan, and what it takes by the model."""

    name: str
    policy: Policy
    plan: Plan
    cost: Cost


@dataclass(frozen=True)
class Finalist:
    """A candidate and what the integer library did; `drop` are points.

    `carried` is the policy as the library carries it out, and `cost` what that takes: on an accelerator some
    `tensors` stay on the chip, which changes mappings.
    """

    name: str
    policy: Policy
    plan: Plan
    cost: Cost
    drop: float
    compiled: Compiled
    carried: Policy
    tensors: tuple[SearchedTensor, ...] = ()


@dataclass(frozen=True)
class Done:
    """A candidate that was compiled, as it was carried out."""

    compiled: Compiled
    carried: Policy
    cost: Cost
    tensors: tuple[SearchedTensor, ...] = ()


def settle(
    candidates: Iterable[Candidate],
    contract: Contract,
    compile: Callable[[Candidate], Done],
    budget: Budget,
    reserve: Callable[[], float],
) -> list[Finalist]:
    """Compile candidates in their order until one keeps the contract; what was compiled, the best one last.

    At most `MOST` are compiled, and another one only if the seconds are left that `reserve` says by then.
    """
    finalists: list[Finalist] = []
    for each in islice(candidates, MOST):
        finalists.append(finalist(each, compile))
        if not excess(finalists[-1], contract) or not budget.has(reserve()):
            break
    return sorted(finalists, key=lambda each: -excess(each, contract))


def finalist(candidate: Candidate, compile: Callable[[Candidate], Done]) -> Finalist:
    """Compile a candidate, and read off what it does."""
    done = compile(candidate)
    return Finalist(
        candidate.name,
        candidate.policy,
        done.compiled.plan,
        done.cost,
        drop_of(done.compiled.report.totals),
        done.compiled,
        done.carried,
        done.tensors,
    )


def drop_of(totals: Totals) -> float:
    """Points of accuracy lost, or of agreement where there are no labels."""
    if totals.accuracy is not None and totals.accuracy_fp32 is not None:
        return _points(totals.accuracy_fp32 - totals.accuracy)
    assert totals.agreement is not None  # there is a sample at least
    return _points(1 - totals.agreement)


def _points(share: float) -> float:
    """A share of samples in points, without what rounding the share added: one in a hundred is 1."""
    return round(100 * share, 9)


def ordered_by(finalists: Iterable[Finalist], contract: Contract) -> list[Finalist]:
    """Give them with the best one last: what keeps the contract, and of that what takes the least."""

    def worth(each: Finalist) -> tuple[float, float]:
        return -excess(each, contract), -quantity_of(each.cost, each.drop, contract.minimize)

    return sorted(finalists, key=worth)


def excess(finalist: Finalist, contract: Contract) -> float:
    """How many times the bound that it breaks most it takes; 0 if it keeps all."""
    return max(contract.broken(finalist.cost, finalist.drop).values(), default=0.0)
