"""Losses: what each scheme of each group of layers does by itself, as many of them as there is time for.

The schemes that change least come first, of all groups, so that there is a complete choice early on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tersor.autoscheduler.budget import Budget, TimeUp
from tersor.compiler import Progress
from tersor.error import UserError
from tersor.scheduler.journal import Journal
from tersor.scheduler.trial import Evaluator
from tersor.scheme import FP32, Scheme

Groups = Mapping[str, tuple[str, ...]]  # of layers, by the first of each
UNMEASURED = "its loss was not measured: the budget left no time"


@dataclass(frozen=True)
class Losses:
    """Losses by the first layer of a group and the scheme, and why others have none."""

    known: Mapping[str, Mapping[Scheme, float]]
    refused: Mapping[str, Mapping[Scheme, str]]


def measure_losses(
    evaluator: Evaluator,
    groups: Groups,
    schemes: Mapping[str, Sequence[Scheme]],
    journal: Journal,
    budget: Budget,
    reserve: float,
    run: str,
    progress: Progress,
    needed: float = 0.0,
) -> Losses:
    """Measure the losses of groups under their schemes, until only `reserve` seconds of the budget are left.

    The first scheme besides fp32 of every group is measured in any case. What the journal has is not measured
    again, and a run that it saw to its end stops where that one did; `run` names it there. Raises TimeUp if
    fewer than the `needed` seconds are left before the first schemes are measured.
    """
    known: dict[str, dict[Scheme, float]] = {name: {} for name in groups}
    refused: dict[str, dict[Scheme, str]] = {name: {} for name in groups}
    cells = _in_order(groups, schemes)
    least = sum(rank == 0 for rank, _, _ in cells)
    end = journal.known("end of losses", run)
    for done, (_, name, scheme) in enumerate(cells):
        progress("measuring layers", done, len(cells))
        if scheme == FP32:
            known[name][scheme] = 0.0
            continue
        if end is not None and done >= end:
            refused[name][scheme] = UNMEASURED
            continue
        if end is None and done < least and not budget.has(needed):
            raise TimeUp
        if end is None and done >= least and not budget.has(reserve):
            end = done
            journal.write("end of losses", run, end)
            refused[name][scheme] = UNMEASURED
            continue
        found = journal.remember(
            "loss", _key(name, scheme), partial(_measured, evaluator, groups[name], scheme)
        )
        if isinstance(found, str):
            refused[name][scheme] = found
        else:
            known[name][scheme] = found
        journal.write("clock", run, budget.spent)
    if end is None:
        journal.write("end of losses", run, len(cells))
    return Losses(known, refused)


def rounding_seconds(losses: Losses, journal: Journal) -> float:
    """How long it took to work out the weights of all layers, each under the scheme that took longest."""
    return sum(
        max((journal.seconds("loss", _key(name, scheme)) for scheme in row), default=0.0)
        for name, row in losses.known.items()
    )


def _key(name: str, scheme: Scheme) -> str:
    return f"{name}={scheme}"


def _measured(evaluator: Evaluator, layers: Sequence[str], scheme: Scheme) -> float | str:
    try:
        return evaluator.loss(layers, scheme)
    except UserError as error:
        return str(error)


def _in_order(groups: Groups, schemes: Mapping[str, Sequence[Scheme]]) -> list[tuple[int, str, Scheme]]:
    """All cells with the rank of their scheme, ascending; fp32, which costs nothing, has none of its own."""
    cells = [
        (max(0, rank - (FP32 in schemes[name])), name, scheme)
        for name in groups
        for rank, scheme in enumerate(sorted(schemes[name], key=lambda each: each != FP32))
    ]
    return sorted(cells, key=lambda cell: cell[0])
