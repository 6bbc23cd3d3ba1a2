"""Simulated layer: what one program of a network took when it was executed, and what had been predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tersor.hardware import Hardware
from tersor.mapped_layer import MappedLayer, predicted
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.isa.assembly import disassemble
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.offload.offload import OffloadedLayer
from tersor.targets.accelerator.simulator.result import Event, Simulated


@dataclass(frozen=True)
class SimulatedLayer:
    """A layer's cycles and pJ on the mean of its runs, and where they went.

    `kind` is conv2d, depthwise, matmul, product, or an operator of the vector unit, which has no `scheme`,
    makes no products (`macs`, `peak` in MAC per cycle and `utilisation` are 0) and is not `predicted`.
    `stalls` are cycles by reason: a tile that is waited for (`input@buffer`), `fill`, `imbalance`, a port
    that the units read from (`buffer port`) or a bus (`buffer weight bus`). `at_work` gives the cycles of
    `compute` at full speed and those of each memory's busier port, on the mean of its instances. `energy_by`
    gives the pJ of `compute` and of each memory, `bytes` what each memory reads and writes. `listing` is the
    program, `events` are those that were kept of the first run, in cycles.
    """

    name: str
    kind: str
    scheme: str
    macs: int
    cycles: float
    energy: float
    peak: float
    utilisation: float
    stalls: dict[str, float]
    at_work: dict[str, float]
    energy_by: dict[str, float]
    bytes: dict[str, float]
    predicted: MappedLayer | None
    listing: str
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        if self.cycles <= 0 or sum(self.stalls.values()) > self.cycles * (1 + 1e-9):
            raise ValueError(f"{self.name}: {self.cycles:g} cycles cannot be with stalls of {self.stalls}")

    @property
    def bound_by(self) -> str:
        """What is at work the longest: `compute` or a memory."""
        return max(self.at_work, key=lambda name: self.at_work[name])

    @property
    def cycles_error(self) -> float | None:
        """How far the predicted cycles are off, as a part of the simulated ones."""
        return self.predicted.cycles / self.cycles - 1 if self.predicted else None

    @property
    def energy_error(self) -> float | None:
        """How far the predicted energy is off, as a part of the simulated one."""
        return self.predicted.energy / self.energy - 1 if self.predicted and self.energy else None


def simulated_layer(
    layer: OffloadedLayer, runs: Sequence[Simulated], hardware: Hardware, densities: Densities = DENSE
) -> SimulatedLayer:
    """Put together what the runs of a layer were, at least one; it is predicted with `densities`."""
    program, mapping = layer.program, layer.mapping
    scheme, model = "", None
    if isinstance(program, Program):
        assert mapping is not None  # what is on the array has one
        scheme = str(program.scheme)
        bits = program.output_bits
        model = predicted(program.layer, program.scheme, mapping, hardware, densities, bits)
    cycles = float(np.mean([run.cycles for run in runs]))
    peak = model.peak if model else 0.0
    return SimulatedLayer(
        name=layer.name,
        kind=layer.kind,
        scheme=scheme,
        macs=layer.macs,
        cycles=cycles,
        energy=float(np.mean([run.energy for run in runs])),
        peak=peak,
        utilisation=layer.macs / (peak * cycles) if peak else 0.0,
        stalls=_mean([run.stalls for run in runs]),
        at_work=_mean([_at_work(run, hardware) for run in runs]),
        energy_by=_mean([{"compute": run.compute_energy, **run.memory_energy} for run in runs]),
        bytes=_mean([_bytes(run, hardware) for run in runs]),
        predicted=model,
        listing=disassemble(program, hardware),
        events=runs[0].events,
    )


def _mean(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: sum(run.get(name, 0.0) for run in runs) / len(runs) for name in names}


def _bytes(run: Simulated, hardware: Hardware) -> dict[str, float]:
    """Bytes that each memory reads and writes."""
    moved = (run.read_bits + run.write_bits).sum(axis=-1) / 8
    return {memory.name: float(bytes) for memory, bytes in zip(hardware.memories, moved, strict=True)}


def _at_work(run: Simulated, hardware: Hardware) -> dict[str, float]:
    """Cycles of compute and of each memory's busier port."""
    found = {"compute": run.cycles - sum(run.stalls.values())}
    read, written = run.read_bits.sum(axis=-1) / 8, run.write_bits.sum(axis=-1) / 8
    for level, memory in enumerate(hardware.memories):
        instances = hardware.instances(memory)
        reads = read[level] / hardware.read_bandwidth(memory)
        writes = written[level] / hardware.write_bandwidth(memory)
        seconds = max(reads, writes) if memory.bandwidth is None else reads + writes
        found[memory.name] = float(seconds * hardware.clock / instances)
    return found
