"""Finalists: the best policies as integer libraries, whose figures decide.

A trial stands for the integer network; that one is what is emitted, so it is compiled, run on the same
samples, and taken if it keeps the contract. On a CPU its time is measured beside uniform int8 and fp32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tersor.compiler import Compiled
from tersor.cost import Cost
from tersor.plan import Plan
from tersor.report import Totals
from tersor.scheduler.contract import Contract
from tersor.scheduler.journal import Journal
from tersor.search.budget import Budget
from tersor.search.plans import key_of

MOST = 2  # of which the first keeps its contract nearly always


@dataclass(frozen=True)
class Finalist:
    """A plan by name, what it takes by the model, and what the integer library did."""

    name: str
    plan: Plan
    cost: Cost
    drop: float
    compiled: Compiled


def drop_of(totals: Totals) -> float:
    """Points of accuracy lost, or of agreement where there are no labels."""
    if totals.accuracy is not None and totals.accuracy_fp32 is not None:
        return 100 * (totals.accuracy_fp32 - totals.accuracy)
    assert totals.agreement is not None  # there is a sample at least
    return 100 * (1 - totals.agreement)


@dataclass(frozen=True)
class Candidate:
    """A plan that may be emitted, and what it takes by the model."""

    name: str
    plan: Plan
    cost: Cost


def settle(
    candidates: Sequence[Candidate],
    contract: Contract,
    compile: Callable[[Plan], Compiled],
    budget: Budget,
    reserve: float,
) -> list[Finalist]:
    """Compile candidates in their order until one keeps the contract; what was compiled, the best one last.

    At most `MOST` are compiled, and another one only if `reserve` seconds are left.
    """
    finalists: list[Finalist] = []
    for candidate in candidates[:MOST]:
        if finalists and not budget.has(reserve):
            break
        compiled = compile(candidate.plan)
        drop = drop_of(compiled.report.totals)
        finalists.append(Finalist(candidate.name, candidate.plan, candidate.cost, drop, compiled))
        if not contract.broken(candidate.cost, drop):
            break
    return sorted(finalists, key=lambda each: -excess(each, contract))


def excess(finalist: Finalist, contract: Contract) -> float:
    """How many times the bound that it breaks most; 0 if it keeps all."""
    return max(contract.broken(finalist.cost, finalist.drop).values(), default=0.0)
