"""Simulate: run a compressed network with an accelerator in its place, beside its build for the CPU."""

from collections import defaultdict, deque
from collections.abc import Sequence, Sized
from typing import Any

import numpy.typing as npt

from tersor.compiler import Progress, Samples, silent
from tersor.compression import compress
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.machine_run import MachineRun, agreement
from tersor.model import Model
from tersor.plan import Plan
from tersor.planned_layers import PlannedLayers
from tersor.simulated_layer import simulated_layer
from tersor.statistics import Statistics
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.offload.execution import listening
from tersor.targets.accelerator.offload.offload import (
    Offloaded,
    OffloadedLayer,
    split_mappings,
)
from tersor.targets.accelerator.simulator.result import Simulated
from tersor.targets.accelerator.simulator.simulation import check_numba

Array = npt.NDArray[Any]


def simulate_network(
    model: Model,
    hardware: Hardware,
    plan: Plan,
    statistics: Statistics,
    samples: Samples,
    progress: Progress = silent,
) -> MachineRun:
    """Run what `hardware` can run of a network on its simulation, the rest on the CPU, and all of it there.

    `plan` and `statistics` are as `tersor.compiler.calibrated_plan` gives them; the layers are predicted with
    the zeros that calibration saw. Raises UserError if the machine can run nothing of the network, there are
    no samples, or numba is missing.
    """
    check_numba()
    progress("mapping", 0, None)
    compressed = compress(model.mod, plan, statistics)
    build, (offloaded,) = model.offloaded(
        [compressed], plan, hardware, lambda done, of: progress("mapping", done, of)
    )
    if not offloaded.layers:
        raise UserError(_why_nothing(model.name, hardware, offloaded))
    progress("compiling", 0, None)
    on_cpu = model.compiled([compressed], split_mappings(plan.mappings, hardware)[1]).runner
    heard: list[tuple[str, Simulated]] = []
    total = len(samples) * len(offloaded.layers) if isinstance(samples, Sized) else None

    def hear(layer: str, done: Simulated) -> None:
        heard.append((layer, done))
        progress("simulating", len(heard), total)

    progress("simulating", 0, total)
    results: list[tuple[list[Array], list[Array]]] = []
    for sample in samples:
        with listening(hear):
            mine = build.runner(sample)
        results.append((mine, on_cpu(sample)))
    if not results:
        raise UserError("there are no samples to run on: give --data with at least one")
    densities = PlannedLayers.of(model.mod, plan, statistics).densities
    layers = [
        simulated_layer(layer, runs, hardware, densities.get(layer.name, DENSE))
        for layer, runs in _in_order(offloaded, heard, len(results))
    ]
    outputs = [
        agreement(spec.name, [(mine[index], theirs[index]) for mine, theirs in results])
        for index, spec in enumerate(model.outputs)
    ]
    return MachineRun.of(hardware.name, len(results), offloaded.share, layers, offloaded.refusals, outputs)


def _in_order(
    offloaded: Offloaded, heard: Sequence[tuple[str, Simulated]], samples: int
) -> list[tuple[OffloadedLayer, list[Simulated]]]:
    """Give each layer, in the order of the first run, its run on each sample.

    A layer that the network uses several times has as many programs under one name, run in their order.
    """
    waiting: dict[str, deque[OffloadedLayer]] = defaultdict(deque)
    for layer in offloaded.layers:
        waiting[layer.name].append(layer)
    once = len(heard) // samples
    first = [waiting[name].popleft() for name, _ in heard[:once]]
    return [(layer, [done for _, done in heard[place::once]]) for place, layer in enumerate(first)]


def _why_nothing(model: str, hardware: Hardware, offloaded: Offloaded) -> str:
    reasons = [refusal.reason for refusal in offloaded.refusals if refusal.macs]
    why = f": {reasons[0]}" if reasons else ""
    return f"{hardware.name} runs no layer of {model}{why}; give other schemes"
