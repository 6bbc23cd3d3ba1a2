"""Product: the least product of two sums, as of time and energy, with a certificate.

A product of two positive sums is quasi-concave, so its minimum over a set is at a vertex of the set's convex
hull (Konno and Kuno, Linear multiplicative programming, 1992). A knapsack for a pair of weights finds the
vertex in that direction, and its bound a line that all picks lie above. The lines enclose the hull from
outside: the least product at a corner between two of them is a bound. The corner that has it is cut off by
the line through the vertices beside it (dichotomic search: Aneja and Nair, Bicriteria transportation
problem, 1979), until no corner is below the best pick.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tersor.scheduler.knapsack import Knapsack, Pick, Values

# Relative: a corner this little below the best pick is taken for the pick.
_EQUAL = 1e-9
# Of weights: directions this near are one.
_PARALLEL = 1e-12
# Directions asked for at most; the corners that are left then make the gap.
_DIRECTIONS = 200


@dataclass(frozen=True)
class _Line:
    """All picks have x * `across` + y * `along` >= `bound`; `x`, `y` is the pick found in this direction."""

    across: float
    along: float
    bound: float
    x: float
    y: float

    def meets(self, other: "_Line") -> tuple[float, float]:
        """The corner with a line of another direction."""
        determinant = self.across * other.along - other.across * self.along
        x = (self.bound * other.along - other.bound * self.along) / determinant
        y = (self.across * other.bound - other.across * self.bound) / determinant
        return max(x, 0.0), max(y, 0.0)

    def leaves(self, point: tuple[float, float]) -> bool:
        """Whether the point is above it or on it."""
        return self.across * point[0] + self.along * point[1] >= self.bound

    def through(self, other: "_Line") -> tuple[float, float] | None:
        """The weights of the line through both picks; None where it would not lie between the two lines."""
        across, along = self.y - other.y, other.x - self.x
        if across <= 0 or along <= 0:
            return None
        apart = 1 - _PARALLEL
        flatter = across * self.along < self.across * along * apart
        steeper = other.across * along < across * other.along * apart
        return (across, along) if flatter and steeper else None


def minimise_product(knapsack: Knapsack, first: int, second: int, limits: Values) -> Pick | None:
    """Pick the least total of the figure `first` times that of `second` within `limits`; None if none fit."""
    found: dict[tuple[int, ...], float] = {}

    def ask(across: float, along: float) -> _Line | None:
        weights = np.zeros(len(limits))
        weights[[first, second]] = across, along
        pick = knapsack.minimise(weights, limits)
        if pick is None:
            return None
        x, y = (float(total) for total in knapsack.totals(pick.options)[[first, second]])
        found[pick.options] = x * y
        return _Line(across, along, pick.bound, x, y)

    steep, flat = ask(1.0, 0.0), ask(0.0, 1.0)
    if steep is None or flat is None:
        return None
    lines, spent = [steep, flat], set[tuple[_Line, _Line]]()
    for _ in range(_DIRECTIONS):
        best = min(found.values())
        corners = [(x * y, one, other) for one, other in pairwise(lines) for x, y in [one.meets(other)]]
        open_ = [each for each in corners if each[0] < best * (1 - _EQUAL) and each[1:] not in spent]
        if not open_:
            break
        _, one, other = min(open_, key=lambda corner: corner[0])
        between = one.through(other)
        line = ask(*between) if between else None
        if line is None or line.leaves(one.meets(other)):
            spent.add((one, other))
        else:
            place = lines.index(other)
            lines = _outermost([*lines[:place], line, *lines[place:]])
    options = min(found, key=lambda options: (found[options], options))
    bound = min(one.meets(other)[0] * one.meets(other)[1] for one, other in pairwise(lines))
    value = found[options]
    word = f"{len(lines)} directions"
    return Pick(options, value, min(bound, value), word)


def _outermost(lines: Sequence[_Line]) -> list[_Line]:
    """The lines, ordered by direction, that have a part of the border: the others lie outside of a corner."""
    border: list[_Line] = []
    for line in lines:
        while len(border) > 1 and border[-1].leaves(border[-2].meets(line)):
            border.pop()
        border.append(line)
    return border
