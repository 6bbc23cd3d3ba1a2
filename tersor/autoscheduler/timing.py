"""Timing: on the CPU at hand a finalist is raced against uniform int8 and fp32, so it is never slower."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np

from tersor.autoscheduler.finalists import Finalist, excess
from tersor.race import fastest
from tersor.scheduler.contract import Contract
from tersor.stopwatch import Stopwatch


class Race(TypedDict):
    """Who won, and the seconds of a run of each by name."""

    won: str
    seconds: dict[str, float]


def race(finalists: Sequence[Finalist], contract: Contract, stopwatch: Stopwatch) -> Race:
    """Time all, and say which one is to be emitted.

    Of those that keep the contract it is the fastest, of equally fast ones the one that comes first; if it is
    not time that is to be the least, the one that comes first. If none keeps it, the closest.
    """
    found = stopwatch.networks([each.compiled.runner for each in finalists])
    rounds = {each.name: times for each, times in zip(finalists, found, strict=True)}
    seconds = {name: float(np.median(times)) for name, times in rounds.items()}
    measured = timed(finalists, seconds)
    keeping = [each.name for each in measured if not excess(each, contract)]
    if not keeping:
        return Race(won=min(measured, key=lambda each: excess(each, contract)).name, seconds=seconds)
    won = keeping[0]
    if contract.minimize == "latency":
        won = fastest({name: rounds[name] for name in keeping})
    return Race(won=won, seconds=seconds)


def timed(finalists: Sequence[Finalist], seconds: dict[str, float]) -> list[Finalist]:
    """Give the finalists with the time that each takes."""
    return [replace(each, cost=replace(each.cost, seconds=seconds[each.name])) for each in finalists]
