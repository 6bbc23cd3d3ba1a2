"""Machines: the one that a model is for, as a search sees it."""

from pathlib import Path

from tersor.model import Model
from tersor.scheduler.costs import Costs
from tersor.search.accelerator import Accelerator
from tersor.search.machine import Machine
from tersor.search.this_cpu import ThisCpu
from tersor.targets.cpu.host.detect import hardware


def machine_of(model: Model, costs: Path | None) -> Machine:
    """Give the accelerator of a model, whose costs are kept in the file `costs`, or the CPU at hand."""
    host = hardware(model.host)
    if model.accelerator is None:
        return ThisCpu.of(host)
    kept = Costs(model.accelerator) if costs is None else Costs.kept(model.accelerator, costs)
    return Accelerator(kept, host)
