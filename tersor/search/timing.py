"""Timing: on the CPU at hand a finalist is raced against uniform int8 and fp32, so it is never slower."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tersor.race import fastest
from tersor.runner import Runner
from tersor.scheduler.contract import Contract
from tersor.search.finalists import Finalist
from tersor.stopwatch import Stopwatch


def timed(
    finalists: Sequence[Finalist], contract: Contract, stopwatch: Stopwatch, known: Mapping[str, float] | None
) -> tuple[list[Finalist], dict[str, float]]:
    """Give the finalists with their measured seconds of a run, the one to be emitted last, and the seconds.

    It is the fastest of those that keep the contract, of equals the one that comes first; if size or drop is
    to be the least, the one that comes first of those that keep it. `known` are seconds of an earlier race.
    """
    runners: list[Runner] = [each.compiled.runner for each in finalists]
    rounds = {}
    if known is None:
        found = stopwatch.networks(runners)
        rounds = {each.name: times for each, times in zip(finalists, found, strict=True)}
        known = {name: float(np.median(times)) for name, times in rounds.items()}
    measured = [replace(each, cost=replace(each.cost, seconds=known[each.name])) for each in finalists]
    keeping = [each for each in measured if not contract.broken(each.cost, each.drop)]
    if not keeping:
        return sorted(measured, key=lambda each: -_excess(each, contract)), known
    if contract.minimize == "latency" and rounds:
        won = fastest({each.name: rounds[each.name] for each in keeping})
        known = {**known}
    return measured, known
