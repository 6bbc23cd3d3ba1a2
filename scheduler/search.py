"""Search: the policy that takes the least of a figure within limits on others, and a bound that proves it.

The figures are sums over the choices, so the problem is a multiple-choice knapsack (`knapsack.py`); the
product of time and energy is the least at a vertex of a convex hull of such (`product.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import numpy as np

from tersor.cost import Cost
from tersor.error import UserError
from tersor.scheduler.figures import ADDITIVE, FIGURES, NO_LIMITS, Figure, Limits, figure_of, figure_text
from tersor.scheduler.knapsack import Knapsack, Pick, Values
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.product import minimise_product


@dataclass(frozen=True)
class Solution:
    """A policy, what it takes by the additive model, and the certificate: no policy within the limits takes
    less of what was minimised than `bound`, and `gap` is (value - bound) / value. `status` is the solver's
    word."""

    policy: Policy
    cost: Cost
    loss: float
    value: float  # of what was minimised
    bound: float
    status: str

    @property
    def gap(self) -> float:
        """How far above the proven bound the value is, relative to the value."""
        return max(0.0, self.value - self.bound) / self.value if self.value else 0.0


def solve(problem: Problem, minimize: Figure, limits: Limits = NO_LIMITS) -> Solution:
    """Find the policy that takes the least of `minimize` within `limits`, by the additive model.

    Limits are kept exactly, as `Problem.cost` and `Problem.loss` add up. The order of the groups does not
    matter. Raises UserError, the sentence of `infeasibility`, if no policy keeps the limits.
    """
    solution = find(problem, minimize, limits)
    if solution is None:
        raise UserError(infeasibility(problem, limits) or "no plan keeps all of the limits")
    return solution


def find(problem: Problem, minimize: Figure, limits: Limits = NO_LIMITS) -> Solution | None:
    """Find what `solve` finds; None if no policy keeps the limits."""
    if minimize not in FIGURES:
        raise ValueError(f"minimize one of {', '.join(FIGURES)}, got {minimize!r}")
    _check(limits)
    key = ("find", minimize, tuple(sorted(limits.items())))
    return problem.once(key, lambda: _find(problem, minimize, limits))


def infeasibility(problem: Problem, limits: Limits) -> str | None:
    """Say which limit cannot be kept and how much is the least with the others kept; None if all can be."""
    _check(limits)
    for figure, limit in limits.items():
        alone = solve(problem, figure).value
        if alone > limit:
            return (
                f"no plan keeps the {figure} at or below {figure_text(figure, limit)}: the least possible is "
                f"{figure_text(figure, alone)}{_most_of(problem, figure)}; raise the limit to that or "
                "allow more schemes"
            )
    if not limits or find(problem, next(iter(limits)), limits) is not None:
        return None
    without: dict[Figure, Limits] = {figure: _without(limits, figure) for figure in limits}
    least: dict[Figure, float] = {
        figure: reached.value
        for figure, others in without.items()
        if limits[figure] and (reached := find(problem, figure, others))
    }
    if not least:  # even without the last limit the others contradict each other
        return infeasibility(problem, without[list(limits)[-1]])
    nearest = min(least, key=lambda figure: least[figure] / limits[figure])
    others = " and ".join(f"{name} {figure_text(name, limit)}" for name, limit in without[nearest].items())
    return (
        f"no plan keeps the {nearest} at or below {figure_text(nearest, limits[nearest])} together with at "
        f"most {others}: with that the least possible is {figure_text(nearest, least[nearest])}; "
        "raise one of the limits or allow more schemes"
    )


def _without(limits: Limits, left_out: Figure) -> dict[Figure, float]:
    return {figure: limit for figure, limit in limits.items() if figure != left_out}


def reachable(problem: Problem, limits: Limits) -> dict[Figure, float]:
    """The limits themselves if a policy keeps all of them; else all raised by one factor, the least possible.

    A limit of 0 is raised by that factor less one. What keeps these is closest to the limits: the greatest
    of the ratios that `Contract.broken` gives is the least.
    """
    _check(limits)
    if not limits or find(problem, next(iter(limits)), limits) is not None:
        return dict(limits)
    return dict(problem.once(("reachable", tuple(sorted(limits.items()))), lambda: _raised(problem, limits)))


def closest(problem: Problem, minimize: Figure, limits: Limits) -> Solution:
    """Find the policy that `solve` finds, or if nothing keeps the limits, that for the `reachable` ones."""
    return solve(problem, minimize, reachable(problem, limits))


def _find(problem: Problem, minimize: Figure, limits: Limits) -> Solution | None:
    table = _table(problem)
    bounds = np.array([limits.get(figure, inf) for figure in ADDITIVE])
    pick: Pick | None
    if minimize == "edp":
        pick = minimise_product(table.knapsack, ADDITIVE.index("latency"), ADDITIVE.index("energy"), bounds)
    else:
        weights = np.array([float(figure == minimize) for figure in ADDITIVE])
        pick = table.knapsack.minimise(weights, bounds)
    if pick is None:
        return None
    policy = table.policy(pick.options)
    cost, loss = problem.cost(policy), problem.loss(policy)
    value = figure_of(cost, loss, minimize)
    return Solution(policy, cost, loss, value, min(pick.bound, value), pick.status)


def _raised(problem: Problem, limits: Limits) -> dict[Figure, float]:
    table = _table(problem)
    bounds = np.array([limits.get(figure, inf) for figure in ADDITIVE])
    totals = table.knapsack.totals(table.knapsack.closest(bounds))
    factor = table.knapsack.excess(totals, bounds)
    raised: dict[Figure, float] = {}
    for figure, limit in limits.items():
        total = float(totals[ADDITIVE.index(figure)])
        room = limit * factor if limit else factor - 1
        # The product may be rounded down below the total that it is made from.
        raised[figure] = max(limit, room, min(total, room * (1 + 1e-12)))
    return raised


def _check(limits: Limits) -> None:
    for figure, limit in limits.items():
        if figure not in ADDITIVE:
            raise ValueError(f"what can be limited is one of {', '.join(ADDITIVE)}, got {figure!r}")
        if not (isfinite(limit) and limit >= 0):
            raise UserError(f"the limit of {figure} must be a finite number >= 0, got {limit}")


def _most_of(problem: Problem, figure: Figure) -> str:
    least = {
        name: min(figure_of(each.cost, each.loss, figure) for each in row)
        for name, row in problem.choices.items()
    }
    worst = sorted(least, key=lambda name: (-least[name], name))[:3]
    needs = ", ".join(f"{name} {figure_text(figure, least[name])}" for name in worst)
    return f" (most of it: {needs})" if needs else ""


@dataclass(frozen=True, eq=False)
class _Table:
    """The figures of a problem's choices: a row for each group, by name, so that no order matters."""

    problem: Problem

    @cached_property
    def knapsack(self) -> Knapsack:
        names = sorted(self.problem.choices)
        rows = [self.problem.choices[name] for name in names]
        places = {name: place for place, name in enumerate(names)}
        return Knapsack(
            tuple(np.array([_figures(each.cost, each.loss) for each in row]) for row in rows),
            _figures(self.problem.rest, 0.0),
            tuple(tuple(each.scheme.input_bits for each in row) for row in rows),
            tuple(
                (places[name], places[other])
                for name in names
                for other in self.problem.no_narrower.get(name, ())
            ),
        )

    def policy(self, options: Sequence[int]) -> dict[str, Choice]:
        picked = dict(zip(sorted(self.problem.choices), options, strict=True))
        return {name: row[picked[name]] for name, row in self.problem.choices.items()}


def _figures(cost: Cost, loss: float) -> Values:
    return np.array([figure_of(cost, loss, figure) for figure in ADDITIVE])


def _table(problem: Problem) -> _Table:
    return problem.once("table", lambda: _Table(problem))
