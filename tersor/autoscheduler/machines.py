"""Machines: the one that a model is for, as a search sees it."""

from importlib.util import find_spec
from pathlib import Path

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.machine import Machine
from tersor.autoscheduler.this_cpu import ThisCpu
from tersor.model import Model
from tersor.passes.extract import extract
from tersor.scheduler.costs import Costs
from tersor.scheduler.journal import Journal
from tersor.targets.cpu.host.detect import hardware
from tersor.tuning.cpu_cost import CpuCosts


def machine_of(
    model: Model, costs: Journal, kernels: Path | None, measuring: float, effort: int, last_effort: int
) -> Machine:
    """Give the accelerator of a model, whose costs are in the journal `costs`, or the CPU at hand.

    About `effort` mappings of a shape are tried, of those of a finalist `last_effort`. The kernels of a CPU
    are measured for `measuring` seconds, kept in `kernels`; without it, or scikit-learn, only modelled.
    """
    host = hardware(model.host)
    if model.accelerator is None:
        if kernels is None or find_spec("sklearn") is None:
            return ThisCpu(host)
        layers = extract(model.mod).layers
        return ThisCpu(host, CpuCosts.open(model.host, kernels, layers), measuring)
    return Accelerator(Costs(model.accelerator, costs, effort), host, last_effort)
