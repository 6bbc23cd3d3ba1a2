"""Front: policies of which none takes more of everything than another one, spread over the trade-offs.

Of each pair of figures one is made least within bounds on the other (the epsilon-constraint method of Haimes,
Lasdon and Wismer, 1971); the next bound is where the gap between two policies is the widest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import log, nextafter

from tersor.scheduler.contract import Quantity
from tersor.scheduler.figures import ADDITIVE, NO_LIMITS, Figure, Limits, figure_of, modelled
from tersor.scheduler.hypervolume import nondominated
from tersor.scheduler.problem import Problem
from tersor.scheduler.search import Solution, find, solve

# Of the upper end of a gap, the share below which policies hardly differ.
_FINEST = 1e-4


def front(
    problem: Problem, quantities: Sequence[Quantity], count: int = 12, limits: Limits = NO_LIMITS
) -> tuple[Solution, ...]:
    """Find policies that trade quantities, by the additive model: `count` for each pair, or all there are.

    The loss stands for the drop. None of the policies is dominated in the quantities by another one of the
    front, nor, if all of them are sums, by any policy within `limits`. They come by the last quantity that is
    a sum, and each has the certificate of what was made least. Raises UserError if no policy keeps the
    limits.
    """
    figures: list[Figure] = [modelled(quantity) for quantity in quantities]
    sums = [figure for figure in figures if figure in ADDITIVE]
    if len(figures) < 2 or len(set(figures)) < len(figures) or len(sums) < len(figures) - 1:
        raise ValueError("a front is of two or more different quantities, of which edp alone is no sum")
    found = [
        each
        for minimize, swept in combinations(sorted(figures, key=lambda figure: figure in ADDITIVE), 2)
        for each in _Sweep(problem, minimize, swept, tuple(sums), limits).policies(count)
    ]
    points = [[_of(each, figure) for figure in figures] for each in found]
    kept = [found[place] for place in nondominated(points)]
    return tuple(sorted(kept, key=lambda each: _of(each, sums[-1])))


@dataclass(frozen=True)
class _Sweep:
    """One figure made least within bounds on another."""

    problem: Problem
    minimize: Figure
    swept: Figure
    sums: tuple[Figure, ...]
    limits: Limits

    def policies(self, count: int) -> list[Solution]:
        """The two ends, and what lies between them until there are so many."""
        found = [self._within(solve(self.problem, self.swept, self.limits).value), self._within(None)]
        # Open below and above: with what is at the lower end nothing takes less until something in between.
        gaps = [(_of(found[0], self.swept), _of(found[1], self.swept))]
        while gaps and len(found) < count:
            low, high = gaps.pop(gaps.index(max(gaps, key=_width)))
            middle = (max(low, high * _FINEST) * high) ** 0.5
            for bound in (middle, nextafter(high, 0.0)):
                if low < bound < high and _of(best := self._within(bound), self.swept) > low:
                    found.append(best)
                    gaps += [(low, _of(best, self.swept)), (bound, high)]
                    break
                low = max(low, min(bound, high))
        return found

    def _within(self, bound: float | None) -> Solution:
        limits = dict(self.limits)
        if bound is not None:
            limits[self.swept] = bound
        best = solve(self.problem, self.minimize, limits)
        return self._efficient(best, limits)

    def _efficient(self, best: Solution, limits: Limits) -> Solution:
        """Of the policies that take as little, one that takes no more than it must of the other figures."""
        kept: tuple[Figure, ...] = ("latency", "energy") if self.minimize == "edp" else (self.minimize,)
        for figure in self.sums:
            taken = {each: _of(best, each) for each in (*self.sums, *kept)}
            less = find(self.problem, figure, {**limits, **taken})
            if less is not None:
                best = replace(best, policy=less.policy, cost=less.cost, loss=less.loss)
        return replace(best, value=_of(best, self.minimize))


def _of(solution: Solution, figure: Figure) -> float:
    return figure_of(solution.cost, solution.loss, figure)


def _width(gap: tuple[float, float]) -> float:
    low, high = gap
    return log(high / max(low, high * _FINEST)) if high > 0 else 0.0
