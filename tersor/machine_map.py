"""Machine map: what each layer of a network takes on an accelerator, by the best mapping of it."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tersor.error import UserError
from tersor.factor import why_no_chain
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapped_layer import Goal, MappedLayer, map_layer
from tersor.network import Network
from tersor.scheduler.widths import output_bits
from tersor.scheme import FP32, INT8, Scheme
from tersor.sparsity import Channels, why_no_pattern
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.mapper.mapper import EFFORT, Mapper, Task


@dataclass(frozen=True)
class MachineMap:
    """The layers of a network on a machine, and of those that it cannot run the reasons.

    The factors of a layer stand in its place, one behind the other. `reduced` says of layers that cannot have
    all of their scheme what is left out and why. `others` counts the operators outside of layers: what they
    take is not known.
    """

    hardware: str
    scheme: str
    goal: Goal
    layers: tuple[MappedLayer, ...]
    refused: dict[str, str]
    reduced: dict[str, str] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

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
    schemes: Scheme | Mapping[str, Scheme] = INT8,
    goal: Goal = "edp",
    show: Callable[[str, int, int | None], None] = lambda what, done, of: None,
    densities: Mapping[str, Densities] | None = None,
    effort: int = EFFORT,
) -> MachineMap:
    """Find the best mapping of each layer for `goal`. Equal shapes are searched once.

    `schemes` are one for all layers, or one by each layer's name, float32 for those without; `densities` are
    by the names of layers, those of factors included. A tensor is as wide as what reads it. What a layer
    cannot have of a scheme (a factor, a pattern of zeros) is left out. About `effort` mappings of each shape
    are tried. Raises UserError for a scheme whose channels a network has to choose.
    """
    mapper = Mapper(hardware, effort)
    reduced: dict[str, str] = {}
    given: list[tuple[Layer, Scheme]] = []
    for layer in network.layers:
        asked = schemes if isinstance(schemes, Scheme) else schemes.get(layer.name, FP32)
        scheme, missing = _rest(layer, asked, hardware)
        given.append((layer, scheme))
        if missing:
            reduced[layer.name] = f"{scheme}: {missing}"
    widths = output_bits(network, {layer.name: scheme for layer, scheme in given})
    parts = [_parts(layer, scheme, densities or {}, widths.get(layer.name)) for layer, scheme in given]
    tasks = [task._replace(layer=task.layer.at_once) for each in parts for task in each]
    mapper.search(tasks, lambda done, of: show("mapping", done, of))
    layers: list[MappedLayer] = []
    refused: dict[str, str] = {}
    for (layer, scheme), of_layer in zip(given, parts, strict=True):
        try:
            found = [
                map_layer(mapper, task.layer, task.scheme, goal, task.densities, task.output_bits)
                for task in of_layer
            ]
        except ValueError as error:
            refused[layer.name] = str(error)
            reduced.pop(layer.name, None)
        else:
            part_of = layer.name if scheme.factor else ""
            layers += [replace(each, part_of=part_of) for each in found]
    named = str(schemes) if isinstance(schemes, Scheme) else "its plan"
    others = dict(sorted(Counter(network.others).items()))
    return MachineMap(hardware.name, named, goal, tuple(layers), refused, reduced, others)


def _parts(
    layer: Layer, scheme: Scheme, densities: Mapping[str, Densities], output_bits: int | None
) -> list[Task]:
    """A layer, or each of those that the factor of its scheme makes of it: they read what is as wide."""
    parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
    alone = replace(scheme, factor=None)
    *first, last = (Task(part, alone, densities.get(part.name, DENSE)) for part in parts)
    return [*first, last._replace(output_bits=output_bits)]


def _rest(layer: Layer, scheme: Scheme, hardware: Hardware) -> tuple[Scheme, str]:
    """Give what `layer` can have of a scheme, and why it cannot have the rest."""
    if isinstance(scheme.sparsity, Channels):
        raise UserError(f"which channels go the data says: give a plan that was made with {scheme.sparsity}")
    reasons: list[str] = []
    if scheme.factor and (reason := why_no_chain(layer, scheme.factor)):
        scheme, reasons = replace(scheme, factor=None), [f"no {scheme.factor}, as {reason}"]
    for part in layer.factored(scheme.factor) if scheme.factor else (layer,):
        if scheme.sparsity and (reason := why_no_pattern(part, scheme.sparsity)):
            reasons.append(f"no {scheme.sparsity}, as {reason}")
            scheme = replace(scheme, sparsity=None)
    if scheme.dynamic:
        reasons.append(f"{hardware.name} finds no ranges while it runs")
        scheme = replace(scheme, dynamic=False)
    return scheme, "; ".join(reasons)
