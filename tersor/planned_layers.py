"""Planned layers: the layers that a plan leaves of a network, their schemes, and the zeros they read."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tvm

from tersor.channel_plan import without_channels
from tersor.network import Network
from tersor.passes.extract import extract
from tersor.passes.pruning.channels import narrowed
from tersor.plan import Plan
from tersor.planning import layer_tensors, model_hash
from tersor.scheme import FP32, Scheme
from tersor.statistics import Statistics, TensorStatistics
from tersor.targets.accelerator.density import Densities


@dataclass(frozen=True)
class PlannedLayers:
    """The network without the channels that its plan drops, schemes and densities by the layers' names.

    Densities are those that calibration saw, none without statistics. They are of the float network, of the
    layers that factors make as well.
    """

    network: Network
    schemes: dict[str, Scheme]
    densities: dict[str, Densities]

    @classmethod
    def of(cls, mod: tvm.IRModule, plan: Plan, statistics: Statistics | None = None) -> "PlannedLayers":
        """Read them off a module and its plan. Raises UserError if the plan was made for another model."""
        plan.check_model(model_hash(mod))
        plan.check_layers(layer.name for layer in extract(mod).layers)
        network = extract(narrowed(mod, plan.groups) if plan.groups else mod)
        schemes = {name: without_channels(layer.scheme) for name, layer in plan.layers.items()}
        seen = (statistics.origin or statistics).tensors if statistics else {}
        return cls(network, schemes, _densities(network, schemes, layer_tensors(mod), seen))


def density(seen: TensorStatistics, bits: int) -> float:
    """Give the fraction of the elements that are not zero once they are integers of `bits` over their range.

    What is less than half a step from zero becomes zero.
    """
    half = (seen.maximum - seen.minimum) / ((1 << bits) - 1) / 2
    left, right = np.maximum(seen.edges[:-1], -half), np.minimum(seen.edges[1:], half)
    inside = np.clip((right - left) / np.diff(seen.edges), 0, 1)
    return 1 - float((inside * seen.histogram).sum() / seen.histogram.sum())


def _densities(
    network: Network,
    schemes: Mapping[str, Scheme],
    tensors: Mapping[str, tuple[str, ...]],
    seen: Mapping[str, TensorStatistics],
) -> dict[str, Densities]:
    found: dict[str, Densities] = {}
    for layer in network.layers:
        read = tensors.get(layer.name, ())
        if layer.operator == "gather" or layer.recurrent or any(name not in seen for name in read):
            continue
        scheme = schemes.get(layer.name, FP32)
        *given, output = (density(seen[name], scheme.input_bits) for name in read)
        if not layer.weight_bearing:
            found[layer.name] = Densities(given[1], given[0], output)
        elif scheme.factor is None:
            found[layer.name] = Densities(1.0, given[0], output)
        else:  # what lies between factors is dense
            first, *_, last = (part.name for part in layer.factored(scheme.factor))
            found[first], found[last] = Densities(input=given[0]), Densities(output=output)
    return found
