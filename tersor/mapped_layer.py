"""Mapped layer: the best mapping of one layer on an accelerator, and where its cycles and pJ go."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import write_tree
from tersor.mapping import Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator import roofline
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.mapper.mapper import Mapped, Mapper
from tersor.targets.accelerator.model import arithmetic_of, evaluate, scheduled
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.schedule.schedule import Schedule

Goal = Literal["latency", "energy", "edp"]


@dataclass(frozen=True)
class MappedLayer:
    """A layer's cycles and pJ, and where they go.

    `utilisation` is the share of the products that the array could have made: macs of the dense layer over
    cycles times `peak`, MAC per cycle under the scheme. `energy_by` gives the pJ of `compute` and of each
    memory, `waits` the cycles in which the array waits for each memory, `bytes` what each memory reads and
    writes. `bound_by` is what is at work the longest: `compute` or a memory. `gap` is how far the goal may be
    above the best possible, 0 if all mappings were tried and ranked (`exact`). A factor of a layer is
    `part_of` it; of a table, which has no loops, `tree` is empty and there is no `gap`.
    """

    name: str
    scheme: str
    macs: int
    cycles: float
    energy: float
    peak: float
    utilisation: float
    bound_by: str
    energy_by: dict[str, float]
    waits: dict[str, float]
    bytes: dict[str, float]
    gap: float | None
    exact: bool
    tree: str
    part_of: str = ""


def map_layer(
    mapper: Mapper,
    layer: Layer,
    scheme: Scheme,
    goal: Goal,
    densities: Densities = DENSE,
    output_bits: int | None = None,
) -> MappedLayer:
    """Find the best mapping of `layer` under `scheme`, which has no factor, for `goal`.

    `output_bits` are those of what reads the output, if it is not as wide as the layer's own input. Rows of a
    recurrent layer are mapped one by one, each waits for the one before. A table is read and
    written as the roofline has it, a lower bound. Raises ValueError with the reason why the machine cannot
    run it.
    """
    if layer.operator == "gather":
        return _looked_up(layer, scheme, mapper.hardware)
    steps = layer.N if layer.recurrent else 1
    one = layer.at_once
    found = mapper.map(one, scheme, densities, output_bits)
    chosen: dict[Goal, Mapped] = {
        "latency": found.fastest,
        "energy": found.least_energy,
        "edp": found.least_edp,
    }
    best = chosen[goal]
    timed = Schedule(best.cycles, np.array(best.waits))
    alone = predicted(one, scheme, best.mapping, mapper.hardware, densities, output_bits, timed)
    gap = {"latency": found.latency_gap, "energy": found.energy_gap, "edp": found.edp_gap}[goal]
    return replace(
        alone,
        macs=layer.macs,
        cycles=alone.cycles * steps,
        energy=alone.energy * steps,
        energy_by={name: energy * steps for name, energy in alone.energy_by.items()},
        waits={name: cycles * steps for name, cycles in alone.waits.items()},
        bytes={name: count * steps for name, count in alone.bytes.items()},
        gap=gap,
        exact=found.exact,
    )


def predicted(
    layer: Layer,
    scheme: Scheme,
    mapping: Mapping,
    hardware: Hardware,
    densities: Densities = DENSE,
    output_bits: int | None = None,
    timed: Schedule | None = None,
) -> MappedLayer:
    """Say what the model predicts of one mapping of `layer`; how good it is among others is not known.

    Its cycles are looked up in `timed` if they are known.

    Raises ValueError with the reason why the machine cannot run the layer.
    """
    nest, sizes = Nest.of(mapping, layer, hardware)
    cost = evaluate(nest, sizes, scheme, densities, output_bits)
    timed = timed or scheduled(nest, sizes, scheme, densities, output_bits)
    names = [memory.name for memory in hardware.memories]
    energies = cost.memory_energy[..., 0].sum(axis=1)
    moved = (cost.traffic.reads + cost.traffic.writes)[..., 0].sum(axis=1) / 8
    at_work = {"compute": float(cost.latency.compute[0])}
    at_work |= dict(zip(names, cost.latency.busy[:, 0].tolist(), strict=True))
    peak = arithmetic_of(scheme, hardware, densities).rate * hardware.units
    cycles = timed.cycles
    return MappedLayer(
        name=layer.name,
        scheme=str(scheme),
        macs=layer.macs,
        cycles=cycles,
        energy=float(cost.energy[0]),
        peak=peak,
        utilisation=layer.macs / (peak * cycles),
        bound_by=max(at_work, key=lambda name: at_work[name]),
        energy_by={
            "compute": float(cost.compute_energy[0]),
            **dict(zip(names, energies.tolist(), strict=True)),
        },
        waits=dict(zip(names, timed.waits.tolist(), strict=True)),
        bytes=dict(zip(names, moved.tolist(), strict=True)),
        gap=None,
        exact=False,
        tree=write_tree(mapping, hardware),
    )


def _looked_up(layer: Layer, scheme: Scheme, hardware: Hardware) -> MappedLayer:
    """Read the rows of a table that are asked for, and write them: no mapping does it with less."""
    if layer.operator not in hardware.operators:
        raise ValueError(f"{hardware.name} runs {', '.join(hardware.operators)}, not {layer.operator}")
    cost = roofline.estimate(layer, scheme, hardware)
    outermost = hardware.memories[0].name
    cycles = cost.seconds * hardware.clock
    names = [memory.name for memory in hardware.memories]
    energies = {name: cost.traffic.get(name, 0) * hardware.memory(name).energy_per_byte for name in names}
    return MappedLayer(
        layer.name,
        str(scheme),
        0,
        cycles,
        cost.energy,
        0.0,
        0.0,
        outermost,
        {"compute": 0.0, **energies},
        {name: cycles if name == outermost else 0.0 for name in names},
        {name: float(cost.traffic.get(name, 0)) for name in names},
        None,
        False,
        "",
    )
