"""Knapsack: one option of each row, the least of a weighted sum within limits, and a bound that proves it.

This is the multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004,
chapter 11) with any number of limits, given to HiGHS as an integer program:

    minimise    sum of weights . value[i, j] x[i, j]
    subject to  sum over j of x[i, j] = 1 for each row i
                rest + sum of value[i, j] x[i, j] <= limit for each figure that has one,    x in {0, 1}

Only what is above the least of each row is in the program, in units of the room that this leaves.

Options may have widths, and a row may be no narrower than others: for each width w then

    sum over j of width at most w of x[i, j]  <=  the same of each row that i is to be no narrower than
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from tersor.silence import quiet_stdout

Values = NDArray[np.float64]

# HiGHS takes a constraint for kept that is broken by 1e-6, and ends 1e-6 above its bound, whatever the unit:
# so limits and sums are scaled to this much.
_SCALE = 1e3
_TOLERANCE = 1e-6 / _SCALE
# What it returns is checked exactly. So many picks that break a limit all the same are forbidden by name
# before the limits are tightened instead.
_FORBIDDEN = 16
# Branches before the search ends with a gap: a number, not a time, so that two runs end alike.
_NODES = 20_000


@dataclass(frozen=True)
class Pick:
    """The option picked in each row, what was minimised, and the bound: no pick within the limits has less.
    `status` is the solver's word."""

    options: tuple[int, ...]
    value: float
    bound: float
    status: str


Widths = tuple[tuple[int, ...], ...]  # of the options of each row
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Knapsack:
    """Rows of options, each [options, figures] of finite values >= 0; `rest` [figures] is always added.

    Of each pair in `no_narrower` the option of the first row has at least the width of that of the second.
    """

    rows: tuple[Values, ...]
    rest: Values
    widths: Widths = ()
    no_narrower: Pairs = ()

    def __post_init__(self) -> None:
        for row in (self.rest[None], *self.rows):
            if not (np.isfinite(row).all() and (row >= 0).all()):
                raise ValueError("what is chosen from needs finite figures that are not negative")

    def totals(self, options: Sequence[int]) -> Values:
        """The sums of each figure, [figures], rounded once."""
        return _sums(self.rest, [row[pick] for row, pick in zip(self.rows, options, strict=True)])

    @cached_property
    def least(self) -> Values:
        """The least sum of each figure by itself, [figures]."""
        return _sums(self.rest, [row.min(axis=0) for row in self.rows])

    def minimise(self, weights: Values, limits: Values) -> Pick | None:
        """Pick the least sum of `weights` [figures] within `limits` [figures], inf for none.

        None if nothing keeps the limits.
        """
        if (self.least > limits).any():
            return None
        limited = np.flatnonzero(np.isfinite(limits))
        kept = self._worthwhile(weights, limits, limited)
        if kept is None:
            return None
        rows = [row[places] for row, places in zip(self.rows, kept, strict=True)]
        room = (limits - _sums(self.rest, [row.min(axis=0) for row in rows]))[limited]
        program = _Program(
            [row @ weights for row in rows],
            [row[:, limited] for row in rows],
            room,
            self._widths_of(kept),
            self.no_narrower,
        )
        forbidden: list[tuple[int, ...]] = []
        bound = 0.0
        for attempt in range(_FORBIDDEN + 1):
            last = attempt == _FORBIDDEN
            local, above, status = program.solve(1.0 - 2 * _TOLERANCE if last else 1.0, forbidden)
            if not last:  # a program with less room proves nothing of the limits themselves
                bound = max(bound, above + float(self.rest @ weights))
            if local is None:
                return None
            options = tuple(int(places[pick]) for places, pick in zip(kept, local, strict=True))
            totals = self.totals(options)
            if (totals <= limits).all():
                value = float(totals @ weights)
                return Pick(options, value, min(bound, value), status)
            forbidden.append(local)
        return None

    def _worthwhile(
        self, weights: Values, limits: Values, limited: NDArray[np.int_]
    ) -> list[list[int]] | None:
        """The options of each row that fit beside the least of the others and that none equals or beats in
        all that counts; None if a row has none."""
        kept = [list(range(len(row))) for row in self.rows]
        while True:
            rows = [row[places] for row, places in zip(self.rows, kept, strict=True)]
            room = (limits - _sums(self.rest, [row.min(axis=0) for row in rows]))[limited]
            widths = self._widths_of(kept) or [(0,) * len(row) for row in rows]
            places = [
                _fitting(row @ weights, row[:, limited], room, width)
                for row, width in zip(rows, widths, strict=True)
            ]
            fewer = [[own[i] for i in left] for own, left in zip(kept, places, strict=True)]
            if (room < 0).any() or not all(fewer):
                return None
            if fewer == kept:  # without the others the least of all may be more, and less may fit
                return kept
            kept = fewer

    def _widths_of(self, kept: Sequence[Sequence[int]]) -> Widths:
        """The widths of some options of each row; one for all if none matters."""
        if not self.no_narrower:
            return ()
        counted = {row for pair in self.no_narrower for row in pair}
        return tuple(
            tuple(self.widths[row][place] if row in counted else 0 for place in places)
            for row, places in enumerate(kept)
        )

    def closest(self, limits: Values) -> tuple[int, ...]:
        """Pick the least of the greatest excess: how many times its limit a figure is, of a limit of 0 one
        more than the figure."""
        limited = np.flatnonzero(np.isfinite(limits))
        nothing = limits[limited] == 0
        unit = np.where(nothing, 1.0, limits[limited])
        least = (self.least[limited] + nothing) / unit
        lowest = float(least.max(initial=0.0)) or 1.0
        loads = [(row[:, limited] - row[:, limited].min(axis=0)) / (unit * lowest) for row in self.rows]
        widths = self._widths_of([range(len(row)) for row in self.rows])
        return _closest(loads, least / lowest, _narrowness(widths, self.no_narrower))

    def excess(self, totals: Values, limits: Values) -> float:
        """The greatest of what `closest` makes small, 0 without limits."""
        limited = np.isfinite(limits)
        nothing = limits[limited] == 0
        ratios = (totals[limited] + nothing) / np.where(nothing, 1.0, limits[limited])
        return float(ratios.max(initial=0.0))


def _sums(rest: Values, parts: Sequence[Values]) -> Values:
    return np.array([fsum(column) for column in np.array([rest, *parts]).T])


def _fitting(costs: Values, loads: Values, room: Values, widths: Sequence[int]) -> list[int]:
    """The options that fit into the room above the least, and that no other as wide equals or beats."""
    fits = (loads - loads.min(axis=0) <= room * (1 + 1e-9)).all(axis=1)
    figures = np.column_stack([costs, loads])
    kept: list[int] = []
    for place in sorted(np.flatnonzero(fits).tolist(), key=lambda place: tuple(figures[place])):
        same = (other for other in kept if widths[other] == widths[place])
        if not any((figures[other] <= figures[place]).all() for other in same):
            kept.append(place)
    return sorted(kept)


def _one_each(lengths: Sequence[int]) -> csr_array:
    """The matrix [rows, options] of what sums to one."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    places = (owner, np.arange(len(owner)))
    return csr_array(coo_array((np.ones(len(owner)), places), shape=(len(lengths), len(owner))))


def _narrowness(widths: Widths, pairs: Pairs) -> Values:
    """The rows [constraints, options] of what is at most 0 where pairs of rows are as they have to be."""
    found: list[Values] = []
    starts = np.cumsum([0, *map(len, widths)], dtype=int)
    for one, other in pairs:
        for width in sorted({*widths[one], *widths[other]})[:-1]:
            row = np.zeros(starts[-1])
            for sign, place in ((1, one), (-1, other)):
                row[starts[place] : starts[place + 1]] += sign * (np.array(widths[place]) <= width)
            found.append(row)
    return np.array(found).reshape(len(found), starts[-1])


def _picked(chosen: Values, starts: NDArray[np.int_]) -> tuple[int, ...]:
    return tuple(int(np.argmax(row)) for row in np.split(chosen, starts[1:])) if starts.size else ()


def _cheapest(costs: Values, starts: NDArray[np.int_]) -> tuple[int, ...]:
    return _picked(-costs, starts)


def _solved(costs: Values, **program: Any) -> Any:
    """What HiGHS makes of a program with integers, without what it says meanwhile."""
    with quiet_stdout():
        return milp(costs, options={"mip_rel_gap": 0.0, "node_limit": _NODES}, **program)


class _Program:
    """The integer program of the options that are left, above the least of each row."""

    def __init__(
        self, costs: Sequence[Values], loads: Sequence[Values], room: Values, widths: Widths, pairs: Pairs
    ) -> None:
        self._lengths = [len(row) for row in costs]
        self._starts = np.cumsum([0, *self._lengths], dtype=int)[:-1]
        self._least = fsum(row.min() for row in costs)
        self._costs = np.concatenate([np.zeros(0), *(row - row.min() for row in costs)])
        # Sums of about the scale; where the least is nothing, the dearest option makes the unit.
        self._unit = (self._least or float(self._costs.max(initial=0.0)) or 1.0) / _SCALE
        above = [np.zeros((0, room.size)), *(row - row.min(axis=0) for row in loads)]
        self._loads = np.concatenate(above) / np.where(room > 0, room, 1.0) * _SCALE
        self._limited = room.size > 0
        self._narrowness = _narrowness(widths, pairs)

    def solve(
        self, share: float, forbidden: Sequence[tuple[int, ...]]
    ) -> tuple[tuple[int, ...] | None, float, str]:
        """The picks (None if none fit), the proven bound and the solver's word, for a share of the room."""
        if not forbidden and self._keeps(cheapest := _cheapest(self._costs, self._starts), share):
            return cheapest, self._least, "the cheapest of each keep the limits"
        constraints = [LinearConstraint(_one_each(self._lengths), 1, 1)]
        if self._limited:
            constraints.append(LinearConstraint(self._loads.T, -np.inf, _SCALE * share))
        if len(self._narrowness):
            constraints.append(LinearConstraint(self._narrowness, -np.inf, 0))
        if forbidden:
            names = np.zeros((len(forbidden), len(self._costs)))
            for row, picks in zip(names, forbidden, strict=True):
                row[self._starts + np.array(picks)] = 1.0
            constraints.append(LinearConstraint(names, -np.inf, len(self._lengths) - 1))
        result = _solved(
            self._costs / self._unit,
            integrality=np.ones(len(self._costs)),
            bounds=Bounds(0, 1),
            constraints=constraints,
        )
        if result.x is None:
            return None, self._least, str(result.message)
        bound = max(0.0, float(result.mip_dual_bound)) * self._unit + self._least
        return _picked(result.x, self._starts), bound, str(result.message)

    def _keeps(self, picks: Sequence[int], share: float) -> bool:
        places = self._starts + np.array(picks, dtype=int)
        in_order = not len(self._narrowness) or (self._narrowness[:, places].sum(axis=1) <= 0).all()
        return bool((self._loads[places].sum(axis=0) <= _SCALE * share).all() and in_order)


def _closest(loads: Sequence[Values], least: Values, narrowness: Values) -> tuple[int, ...]:
    """The picks of the least t with least + loads <= t for each figure; the least of `least` is about 1."""
    lengths = [len(row) for row in loads]
    if not lengths or not least.size:
        return (0,) * len(lengths)
    options = sum(lengths)
    each = csr_array(np.column_stack([_one_each(lengths).toarray(), np.zeros((len(lengths), 2))]))
    kept = np.column_stack([np.concatenate(loads).T, -np.ones(least.size), least])
    in_order = np.column_stack([narrowness, np.zeros((len(narrowness), 2))])
    # One more option that is always taken, so that the limits are numbers of the matrix.
    taken = np.append(np.zeros(options), [0.0, 1.0])
    result = _solved(
        np.append(np.zeros(options), [_SCALE, 0.0]),
        integrality=np.append(np.ones(options), [0, 0]),
        constraints=[
            LinearConstraint(each, 1, 1),
            LinearConstraint(taken[None], 1, 1),
            LinearConstraint(kept * _SCALE, -np.inf, 0),
            *([LinearConstraint(in_order, -np.inf, 0)] if len(narrowness) else []),
        ],
    )
    if result.x is None:  # it always has a solution; without one in time, that of the least of all excesses
        return tuple(int(np.argmin(row.sum(axis=1))) for row in loads)
    return _picked(result.x[:-2], np.cumsum([0, *lengths])[:-1])
