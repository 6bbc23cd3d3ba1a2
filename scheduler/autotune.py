"""Autotune: from a network, its weights and its statistics to a plan.

explore each layer's space  ->  its noise (sensitivity) and its cost (the target's model)  ->  choose
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log10
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from tersor.cost import Cost
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.network import Network
from tersor.passes.quantization.ranges import ranges
from tersor.plan import LayerPlan, Plan
from tersor.recipe import Calibration, Recipe
from tersor.scheduler.figures import Figure
from tersor.scheduler.problem import Choice, Problem
from tersor.scheduler.search import solve
from tersor.scheduler.sensitivity import Activations, Operand, noises, product_noises, table_noises
from tersor.scheduler.space import Space, WhyNot, explore
from tersor.scheme import Scheme
from tersor.statistics import Statistics, TensorStatistics

Quantity = Literal["seconds", "energy", "size", "noise"]
Estimate = Callable[[Layer, Scheme], Cost]
Weights = Mapping[str, NDArray[np.float32]]
Tensors = Mapping[str, tuple[str, ...]]  # of a layer: its inputs, then its output

_FIGURES: dict[Quantity, Figure] = {
    "seconds": "latency",
    "energy": "energy",
    "size": "size",
    "noise": "loss",
}


@dataclass(frozen=True)
class Limit:
    """At most `value` of a quantity in total: s, pJ, bytes, or the sum of the noise-to-signal ratios."""

    quantity: Quantity
    value: float

    @classmethod
    def snr(cls, decibels: float) -> Self:
        """The noise that leaves this signal-to-noise ratio, if the layers' noises add up."""
        return cls("noise", 10 ** (-decibels / 10))


def tune(
    network: Network,
    weights: Weights,
    statistics: Statistics,
    tensors: Tensors,
    hardware: Hardware,
    why_not: WhyNot,
    estimate: Estimate,
    objective: Quantity,
    limit: Limit,
    *,
    model: str,
    recipe: Recipe | None = None,
    on_layer: Callable[[str], None] = lambda name: None,
) -> Plan:
    """Choose a scheme for each layer: the least of `objective` in total within `limit`.

    `weights` are by layer ([C, K] or [G * K, C, R, S]); `tensors` names each layer's input (both of a product
    of two activations, which is left alone where they are not named) and its output in the statistics;
    `why_not` and `estimate` are the target's; `model` is the model's hash, `on_layer` is told each layer
    before it is rated. Layers tied to one weight get one scheme. Raises UserError if the
    statistics lack a tensor, or if no plan keeps the limit.
    """
    recipe = recipe or Recipe()
    spaces: dict[str, Space] = {}
    ratings: dict[str, dict[Scheme, Choice]] = {}
    for layer in network.layers:
        if layer.weight_bearing or layer.name in tensors:
            on_layer(layer.name)
            spaces[layer.name] = explore(layer, why_not)
            noise = _noises(layer, spaces[layer.name], weights, statistics, tensors, recipe.calibration)
            ratings[layer.name] = {
                scheme: Choice(scheme, estimate(layer, scheme), noise[scheme])
                for scheme in spaces[layer.name].legal
            }
    groups = {group[0]: group for group in _groups(network, ratings)}
    choices = {name: _joint(group, ratings) for name, group in groups.items()}
    if empty := [name for name, row in choices.items() if not row]:
        raise UserError(f"the layer {empty[0]!r} has no scheme to choose from; allow it fp32 or another one")
    problem = Problem(choices, groups)
    solution = solve(problem, _FIGURES[objective], {_FIGURES[limit.quantity]: limit.value})
    chosen = problem.schemes(solution.policy)
    layers = {
        name: LayerPlan(scheme, reason=_reason(ratings[name][scheme], spaces[name]))
        for name, scheme in chosen.items()
    }
    return Plan(model, hardware.name, layers, statistics.digest(), recipe)


def activations_of(
    layer: Layer, statistics: Statistics, tensors: Tensors, calibration: Calibration
) -> Activations:
    """Read what `sensitivity` needs of a layer off the statistics.

    The input's variance stands for its second moment: the corrected bias takes up what the mean would add.
    Raises UserError if a tensor is missing.
    """
    input, output = _read(layer, statistics, tensors)
    variance = np.maximum(input.second_moment - input.mean**2, 0.0)
    if len(variance) != layer.G * layer.C:
        raise UserError(
            f"the statistics have {len(variance)} channels of the input of {layer.name!r}, which reads "
            f"{layer.G * layer.C}; calibrate this model again"
        )
    if layer.recurrent:  # its bias is not corrected, and the range of its state is known
        return Activations(input.second_moment, _power(output), (-1.0, 1.0))
    return Activations(variance, _power(output), ranges(input, calibration))


def _noises(
    layer: Layer,
    space: Space,
    weights: Weights,
    statistics: Statistics,
    tensors: Tensors,
    calibration: Calibration,
) -> Mapping[Scheme, float]:
    if layer.weight_bearing and layer.operator != "gather":
        activations = activations_of(layer, statistics, tensors, calibration)
        return noises(weights[layer.name], space.legal, activations)
    *inputs, output = _read(layer, statistics, tensors)
    if layer.operator == "gather":
        return table_noises(weights[layer.name], space.legal, _power(output))
    left, right = (Operand(_power(each), ranges(each, calibration)) for each in inputs)
    return product_noises(layer.C, left, right, space.legal, _power(output))


def _read(layer: Layer, statistics: Statistics, tensors: Tensors) -> list[TensorStatistics]:
    names = tensors.get(layer.name, ())
    if missing := [name for name in names or (layer.name,) if name not in statistics.tensors]:
        raise UserError(f"the statistics have nothing on {missing[0]!r}; calibrate this model again")
    return [statistics.tensors[name] for name in names]


def _power(tensor: TensorStatistics) -> float:
    # A tensor that is always zero has no signal: any noise is too much, and its layer stays in fp32.
    return max(float(tensor.second_moment.mean()), float(np.finfo(np.float32).tiny))


def _groups(network: Network, names: Mapping[str, object]) -> list[tuple[str, ...]]:
    """The layers that decide together, in the network's order: the tied ones, and each other one alone."""
    tied = [tuple(name for name in group if name in names) for group in network.tied]
    together = {name for group in tied for name in group}
    return [*(group for group in tied if group), *((name,) for name in names if name not in together)]


def _joint(group: tuple[str, ...], ratings: Mapping[str, dict[Scheme, Choice]]) -> tuple[Choice, ...]:
    """What all layers of a group may get together; their one weight is stored once."""
    first, *others = (ratings[name] for name in group)
    joint: list[Choice] = []
    for scheme, choice in first.items():
        if all(scheme in other for other in others):
            cost = sum((other[scheme].cost for other in others), start=choice.cost)
            noise = choice.loss + sum(other[scheme].loss for other in others)
            joint.append(Choice(scheme, _with_size(cost, choice.cost.size), noise))
    return tuple(joint)


def _with_size(cost: Cost, size: int) -> Cost:
    return Cost(cost.seconds, cost.energy, cost.traffic, size, cost.peak_memory)


def _reason(choice: Choice, space: Space) -> str:
    noise = 10 * log10(choice.loss) if choice.loss else -inf
    words = [
        f"{choice.cost.seconds * 1e3:.3g} ms, {choice.cost.size} bytes, noise {noise:.1f} dB (estimated)"
    ]
    words += [f"no {refused}: {reason}" for refused, reason in space.refused if refused != choice.scheme]
    return "; ".join(words)
