"""Spot check: the chosen network is simulated on a sample; what it takes stands beside what was predicted."""

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

import numpy.typing as npt

from tersor.autoscheduler.report import SpotCheck
from tersor.compiler import Progress
from tersor.hardware import Hardware
from tersor.runner import Runner
from tersor.targets.accelerator.offload.execution import listening
from tersor.targets.accelerator.simulator.result import Simulated


def spot_check(
    runner: Runner,
    sample: Mapping[str, npt.NDArray[Any]],
    layers: Collection[str],
    hardware: Hardware,
    progress: Progress,
) -> SpotCheck | None:
    """Run a network, whose programs are those of `layers` and of operators between them, on one sample.

    None without numba, which simulating needs.
    """
    if find_spec("numba") is None:
        return None
    cycles = {True: 0.0, False: 0.0}
    energy = 0.0

    def hear(name: str, done: Simulated) -> None:
        nonlocal energy
        progress(f"simulating {name}", 0, None)
        cycles[name in layers] += done.cycles
        energy += done.energy if name in layers else 0.0

    with listening(hear):
        runner(sample)
    return SpotCheck(cycles[True] / hardware.clock, energy, cycles[False] / hardware.clock)
