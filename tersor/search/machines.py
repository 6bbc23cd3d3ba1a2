"""Machines: the one that a model is for, as a search sees it."""

from pathlib import Path

from tersor.model import Model
from tersor.scheduler.costs import Costs
from tersor.scheduler.memo import Memo
from tersor.search.accelerator import Accelerator
from tersor.search.machine import Machine
from tersor.search.this_cpu import ThisCpu
from tersor.targets.cpu.host.detect import hardware


def machine_of(model: Model, costs: Path | None, effort: int, last_effort: int) -> Machine:
    """Give the accelerator of a model, whose costs are kept in the file `costs`, or the CPU at hand.

    About `effort` mappings of a shape are tried, of those of a finalist `last_effort`.
    """
    host = hardware(model.host)
    if model.accelerator is None:
        return ThisCpu.of(host)
    memo = Memo("costs", costs)
    return Accelerator(Costs(model.accelerator, memo, effort), host, last_effort)
