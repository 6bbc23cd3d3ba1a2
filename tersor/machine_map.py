"""Machine map: what each layer of a network takes on an accelerator, by the best mapping of it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import write_tree
from tersor.network import Network
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.mapper.mapper import Found, Mapped, Mapper
from tersor.targets.accelerator.model import arithmetic_of, evaluate
from tersor.targets.accelerator.nest import Nest

Goal = Literal["latency", "energy", "edp"]
GOALS: tuple[Goal, ...] = get_args(Goal)


@dataclass(frozen=True)
class MappedLayer:
    """A layer's cycles and pJ, and where they go.

    `utilisation` is the share of the products that the array could have made; `energy_by` gives the pJ of
    `compute` and of each memory, and `waits` the cycles that each memory adds to those of `compute`. `gap` is
    how far the goal may be above the best possible, 0 if all mappings were tried, and None for edp if not.
    """

    name: str
    cycles: float
    energy: float
    utilisation: float
    energy_by: dict[str, float]
    waits: dict[str, float]
    gap: float | None
    exact: bool
    tree: str


@dataclass(frozen=True)
class MachineMap:
    """The layers of a network on a machine, and of those that it cannot run the reasons."""

    hardware: str
    scheme: str
    goal: Goal
    layers: tuple[MappedLayer, ...]
    refused: dict[str, str]

    @property
    def cycles(self) -> float:
        """Cycles of all layers, one after the other."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def energy(self) -> float:
        """PJ of all layers."""
        return sum(layer.energy for layer in self.layers)

    def save(self, path: Path) -> None:
        """Write all of it as JSON. Raises UserError."""
        content = {**asdict(self), "cycles": self.cycles, "energy": self.energy}
        try:
            path.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error


def map_network(
    network: Network,
    hardware: Hardware,
    scheme: Scheme = INT8,
    goal: Goal = "edp",
    show: Callable[[str, int, int | None], None] = lambda what, done, of: None,
) -> MachineMap:
    """Find the best mapping of each layer under `scheme` for `goal`. Equal shapes are searched once."""
    mapper = Mapper(hardware)
    layers: list[MappedLayer] = []
    refused: dict[str, str] = {}
    for done, layer in enumerate(network.layers):
        show("mapping", done, len(network.layers))
        try:
            found = mapper.map(layer, scheme)
        except ValueError as error:
            refused[layer.name] = str(error)
        else:
            layers.append(_mapped(layer, found, hardware, scheme, goal))
    return MachineMap(hardware.name, str(scheme), goal, tuple(layers), refused)


def _mapped(layer: Layer, found: Found, hardware: Hardware, scheme: Scheme, goal: Goal) -> MappedLayer:
    chosen: dict[Goal, tuple[Mapped, float | None]] = {
        "latency": (found.fastest, found.latency_gap),
        "energy": (found.least_energy, found.energy_gap),
        "edp": (found.least_edp, 0.0 if found.exact else None),
    }
    best, gap = chosen[goal]
    nest, sizes = Nest.of(best.mapping, layer, hardware)
    cost = evaluate(nest, sizes, scheme)
    names = [memory.name for memory in hardware.memories]
    by_memory = cost.memory_energy[..., 0].sum(axis=1).tolist()
    peak = arithmetic_of(scheme, hardware, DENSE).rate * hardware.units
    return MappedLayer(
        layer.name,
        best.cycles,
        best.energy,
        layer.macs / (peak * best.cycles),
        {"compute": float(cost.compute_energy[0]), **dict(zip(names, by_memory, strict=True))},
        dict(zip(names, cost.latency.added[:, 0].tolist(), strict=True)),
        gap,
        found.exact,
        write_tree(best.mapping, hardware),
    )
