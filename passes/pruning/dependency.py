"""Dependency groups: the channels of a network that can only be dropped together, and those that must stay.

A *class* is the least that can be dropped: one channel of one layer, with all that a residual addition, a
depthwise convolution or a gate ties to it. A *group* is the classes that run through the same layers.
(Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, finds groups of layers; here operators are
walked channel by channel, so concatenations and slices need no bookkeeping of their own.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.ir.graph import Expr, Graph
from tersor.layer import Layer
from tersor.passes.pruning.spread import Along, Spread
from tersor.passes.pruning.ties import Numbers
from tersor.plan import GroupPlan


@dataclass(frozen=True)
class Group:
    """Classes of channels in the order of the first layer's, and the layers that they run through."""

    layers: tuple[str, ...]
    classes: tuple[int, ...]


class Dependencies:
    """Which channels of a network go together.

    `outputs` and `inputs` give by layer the class of each row and of each column's channel, `along` of each
    tensor's channels, `stored` of what is cut from a weight or constant. With `outputs_stay` false a tensor
    that the network returns may lose channels: so that a network whose inner tensors are watched is no other.
    """

    def __init__(self, graph: Graph, outputs_stay: bool = True) -> None:
        spread = Spread(graph, outputs_stay)
        ties = spread.ties
        self.graph = graph
        self.outputs = {name: ties.classes(numbers) for name, numbers in spread.outputs.items()}
        self.inputs = {name: ties.classes(numbers) for name, numbers in spread.inputs.items()}
        self.along = {var: Along(each.axis, ties.classes(each.numbers)) for var, each in spread.along.items()}
        self.stored: dict[tuple[Expr, int], tuple[Along, ...]] = {
            where: tuple(Along(each.axis, ties.classes(each.numbers)) for each in cuts)
            for where, cuts in spread.stored.items()
        }
        self.fixed = ties.fixed()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of channels that may be dropped, in the order of the network."""
        through: dict[int, list[str]] = {}
        for layer, classes in self.outputs.items():
            for each in dict.fromkeys(classes.tolist()):
                through.setdefault(each, []).append(layer)
        groups: dict[tuple[str, ...], list[int]] = {}
        for each, layers in through.items():
            if each not in self.fixed:
                groups.setdefault(tuple(layers), []).append(each)
        return tuple(Group(layers, tuple(classes)) for layers, classes in groups.items())

    def why_kept(self, layer: str) -> str | None:
        """Say why some output channels of a layer stay, or None if all may be dropped."""
        for each in self.outputs.get(layer, ()):
            if reason := self.fixed.get(int(each)):
                return reason
        return None if layer in self.outputs else "what it reads is not followed"

    def planned(self, group: Group, dropped: set[int]) -> GroupPlan:
        """Write down what a group keeps, as channels of its first layer."""
        first = self.outputs[group.layers[0]]
        kept = [channel for channel, each in enumerate(first.tolist()) if each not in dropped]
        return GroupPlan(group.layers, tuple(kept))

    def dropped(self, plans: Sequence[GroupPlan]) -> frozenset[int]:
        """Give the classes that a plan drops.

        Raises UserError for a group that the network does not have, for channels beyond the layer's, and for
        a drop that a channel tied elsewhere does not allow.
        """
        found: set[int] = set()
        known = {group.layers: set(group.classes) for group in self.groups}
        for plan in plans:
            first = plan.layers[0]
            if plan.layers not in known:
                tied = [group.layers for group in self.groups if first in group.layers]
                why = f"its channels go with {' and '.join(map(str, map(list, tied)))}" if tied else None
                why = why or self.why_kept(first) or "it is none"
                raise UserError(
                    f"the plan's group {list(plan.layers)} is none of this network: {first} {why}"
                )
            classes = self.outputs[first]
            if plan.kept[-1] >= len(classes):
                raise UserError(
                    f"the plan's group {list(plan.layers)} keeps channel {plan.kept[-1]}, but {first} has "
                    f"{len(classes)}: keep channels 0 to {len(classes) - 1}"
                )
            kept = set(classes[list(plan.kept)].tolist())
            mine = set(classes.tolist()) - kept
            if beyond := mine - known[plan.layers]:
                channel = int(np.flatnonzero(classes == min(beyond))[0])
                raise UserError(
                    f"the plan's group {list(plan.layers)} drops channel {channel} of {first}, which has to "
                    f"stay: {self.fixed.get(min(beyond), 'it is tied to other layers')}"
                )
            found |= mine
        return frozenset(found)

    def kept_mask(self, classes: Numbers, dropped: frozenset[int]) -> NDArray[np.bool_]:
        """Which of some channels stay."""
        return ~np.isin(classes, np.fromiter(sorted(dropped), np.int64, len(dropped)))

    def macs(self, layers: Mapping[str, Layer], dropped: frozenset[int]) -> dict[str, int]:
        """Give the multiply-accumulates of each layer without the dropped classes."""
        return {name: self.narrowed(layer, dropped).macs for name, layer in layers.items()}

    def narrowed(self, layer: Layer, dropped: frozenset[int]) -> Layer:
        """Give a layer as it is without the dropped classes."""
        rows = self.outputs.get(layer.name)
        outputs = layer.G * layer.K if rows is None else int(self.kept_mask(rows, dropped).sum())
        if layer.is_depthwise:
            kept = outputs // layer.K
            return replace(layer, G=kept)
        columns = self.inputs.get(layer.name)
        inputs = layer.C
        if columns is not None:
            inputs = int(self.kept_mask(columns, dropped).sum())
        return replace(layer, K=outputs // layer.G, C=inputs)
