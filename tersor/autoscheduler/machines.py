"""Machines: the one that a model is for, as a search sees it."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.machine import Machine
from tersor.autoscheduler.on_chip import find_homes
from tersor.autoscheduler.this_cpu import ThisCpu
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.model import Model
from tersor.passes.extract import extract
from tersor.passes.quantization.tensors import settled
from tersor.scheduler.contract import Contract
from tersor.scheduler.costs import Costs
from tersor.scheduler.journal import Journal
from tersor.scheduler.machine_problem import check_energy
from tersor.statistics import Statistics
from tersor.targets.cpu.host.detect import hardware
from tersor.tuning.cpu_cost import CpuCosts


def check_contract(contract: Contract, accelerator: Hardware | None) -> None:
    """Raise UserError for a contract about energy where none is known: on the CPU, and on some machines."""
    if accelerator is not None:
        check_energy(contract, accelerator)
    elif contract.minimize in ("energy", "edp") or contract.max_energy is not None:
        raise UserError(
            "of this CPU no energies are known: ask for latency, size or drop, or give an accelerator "
            "as --hardware"
        )


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
    carried_out = partial(settled, model.mod)
    return Accelerator(Costs(model.accelerator, costs, effort), host, last_effort, carried_out=carried_out)


def with_homes(machine: Machine, model: Model, statistics: Statistics) -> Machine:
    """Let an accelerator keep tensors of a calibrated model on its chip while a search chooses."""
    if not isinstance(machine, Accelerator):
        return machine
    homes_on = partial(find_homes, model.mod, statistics, model.host)
    return replace(machine, homes_on=homes_on).on(machine.costs.hardware)
