"""Search: one option for each layer, the cheapest altogether within a limit, and a bound that proves it.

This is the multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004,
chapter 11), given to HiGHS as an integer program:

    minimise    sum of cost[i, j] x[i, j]
    subject to  sum over j of x[i, j] = 1 for each layer i
                sum of load[i, j] x[i, j] <= limit,    x in {0, 1}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf, isfinite
from typing import Generic, TypeVar

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from tersor.error import UserError

Value = TypeVar("Value")

# HiGHS accepts a constraint that is violated by 1e-6; what it returns is checked exactly and asked for again.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Option(Generic[Value]):
    """A choice of `value` for a layer: `cost` is minimised, `load` counts against the limit."""

    value: Value
    cost: float
    load: float

    def __post_init__(self) -> None:
        if not (0 <= self.cost < inf and 0 <= self.load < inf):
            raise ValueError(f"an option needs a finite cost and load >= 0, got {self.cost} and {self.load}")


@dataclass(frozen=True)
class Solution(Generic[Value]):
    """The chosen values by layer, their total cost and load, and the certificate: no choice has a cost below
    `bound`, and `gap` is (cost - bound) / cost."""

    chosen: Mapping[str, Value]
    cost: float
    load: float
    bound: float
    status: str

    @property
    def gap(self) -> float:
        """How far above the proven bound the cost is, relative to the cost."""
        return max(0.0, self.cost - self.bound) / self.cost if self.cost else 0.0


def choose(
    options: Mapping[str, Sequence[Option[Value]]], limit: float, what: str = "load"
) -> Solution[Value]:
    """Choose one option of each layer with the least total cost whose total load is at most `limit`.

    `what` names the load in errors. The order of the layers does not matter. Raises UserError if no choice
    keeps the limit, naming the least limit that one keeps and the layers that need most of it.
    """
    _check_feasible(options, limit, what)
    names = sorted(options)
    rows = [_worthwhile(options[name], limit) for name in names]
    picked, bound, status = _solve(rows, limit)
    chosen = [row[place] for row, place in zip(rows, picked, strict=True)]
    return Solution(
        {name: option.value for name, option in zip(names, chosen, strict=True)},
        cost=fsum(option.cost for option in chosen),
        load=fsum(option.load for option in chosen),
        bound=bound,
        status=status,
    )


def _check_feasible(options: Mapping[str, Sequence[Option[Value]]], limit: float, what: str) -> None:
    if not (isfinite(limit) and limit >= 0):
        raise UserError(f"the limit of {what} must be a finite number >= 0, got {limit}")
    for name, row in options.items():
        if not row:
            raise UserError(f"the layer {name!r} has no scheme to choose from; allow it fp32 or another one")
    least = {name: min(option.load for option in row) for name, row in options.items()}
    if fsum(least.values()) > limit:
        worst = sorted(least, key=lambda name: (-least[name], name))[:3]
        needs = ", ".join(f"{name} {least[name]:.3g}" for name in worst)
        raise UserError(
            f"no plan keeps the {what} at or below {limit:.4g}: the least possible is "
            f"{fsum(least.values()):.4g} (most of it: {needs}); raise the limit to that or allow more schemes"
        )


def _worthwhile(row: Sequence[Option[Value]], limit: float) -> list[Option[Value]]:
    """The options within the limit that no other equals or beats in both numbers, by ascending load."""
    kept: list[Option[Value]] = []
    for option in sorted(row, key=lambda option: (option.load, option.cost)):
        if option.load <= limit and (not kept or option.cost < kept[-1].cost):
            kept.append(option)
    return kept


def _solve(rows: Sequence[Sequence[Option[Value]]], limit: float) -> tuple[list[int], float, str]:
    """The place picked in each row, a lower bound of the cost, and what HiGHS says of it."""
    if not rows:
        return [], 0.0, "nothing to choose"
    program = _Program(rows, limit)
    picks, bound, status = program.solve(1.0)
    if picks is None or program.load(picks) > limit:
        # The first bound stays true: with its tolerance the solver had more room than the limit gives.
        picks, _, status = program.solve(1.0 - 2 * _TOLERANCE)
    if picks is None or program.load(picks) > limit:
        return [0] * len(rows), bound, "only the options of least load keep the limit"
    return picks, bound, status


class _Program(Generic[Value]):
    """The integer program, scaled so that the solver's tolerances suit seconds, bytes and noise alike."""

    def __init__(self, rows: Sequence[Sequence[Option[Value]]], limit: float) -> None:
        self._rows = rows
        costs = np.array([option.cost for row in rows for option in row])
        loads = np.array([option.load for row in rows for option in row])
        self._cost_unit = float(costs.max()) or 1.0
        self._costs = costs / self._cost_unit
        self._limit = 1.0 if limit else 0.0
        self._loads = loads / (limit or 1.0)
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        places = (owner, np.arange(len(costs)))
        self._one_each = coo_array((np.ones(len(costs)), places), shape=(len(rows), len(costs))).tocsr()
        self._starts = np.flatnonzero(np.diff(owner)) + 1

    def solve(self, share: float) -> tuple[list[int] | None, float, str]:
        """The picks (None if none fit), the proven bound and the solver's word, for a share of the limit."""
        result = milp(
            self._costs,
            integrality=np.ones(len(self._costs)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(self._one_each, 1, 1),
                LinearConstraint(self._loads[None], -np.inf, self._limit * share),
            ],
            options={"mip_rel_gap": 0.0},
        )
        if result.x is None:
            return None, 0.0, str(result.message)
        picks = [int(np.argmax(row)) for row in np.split(result.x, self._starts)]
        return picks, float(result.mip_dual_bound) * self._cost_unit, str(result.message)

    def load(self, picks: Sequence[int]) -> float:
        """The exact load of the options picked."""
        return fsum(row[pick].load for row, pick in zip(self._rows, picks, strict=True))
