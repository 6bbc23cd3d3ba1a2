"""Selection: write the groups of a plan, from the schemes that ask for fewer channels."""

from collections.abc import Mapping
from dataclasses import dataclass

from tersor.ir.graph import Graph, Module
from tersor.network import Network
from tersor.passes.pruning.allocation import Allocation, allocate
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.pruning.importance import importance, read_names
from tersor.plan import GroupPlan
from tersor.recipe import Criterion
from tersor.scheme import Scheme
from tersor.sparsity import Channels
from tersor.statistics import Statistics


@dataclass(frozen=True)
class Selection:
    """The groups of channels that shrink, and what is to be said of each layer that was to shrink.

    `shrunk` says how much smaller a layer is, `kept` why one is as it was.
    """

    groups: tuple[GroupPlan, ...]
    shrunk: dict[str, str]
    kept: dict[str, str]


def select_channels(
    mod: Module,
    network: Network,
    schemes: Mapping[str, Scheme],
    criterion: Criterion,
    statistics: Statistics | None,
    lanes: int,
) -> Selection:
    """Choose the channels that go where `schemes` has `Channels`; nothing where none has.

    The multiplications that go are the sum over these layers of the share that each scheme names; they are
    counted over the whole network. Raises UserError for a criterion that channels cannot be chosen by.
    """
    asked = {
        name: scheme.sparsity for name, scheme in schemes.items() if isinstance(scheme.sparsity, Channels)
    }
    layers = {layer.name: layer for layer in network.layers if layer.weight_bearing}
    total = sum(layer.macs for layer in layers.values())
    if not asked or not total:
        return Selection((), {}, dict.fromkeys(asked, "it multiplies nothing"))
    share = sum(layers[name].macs * (1 - each.density) for name, each in asked.items()) / total
    dependencies = Dependencies(Graph(mod))
    scores = importance(dependencies, criterion, statistics, read_names(dependencies))
    unknown = {
        layer
        for group in dependencies.groups
        if not scores.keys() & {*group.classes}
        for layer in group.layers
    }
    found = allocate(
        dependencies,
        layers,
        lambda group: all(layer in asked for layer in group.layers) and not unknown & {*group.layers},
        scores,
        share,
        lanes,
        uniform=criterion == "magnitude",
    )
    shrinking = [group for group in dependencies.groups if found.dropped & set(group.classes)]
    groups = tuple(dependencies.planned(group, set(found.dropped)) for group in shrinking)
    shrunk, kept = {}, {}
    for name in asked:
        before, after = layers[name], dependencies.narrowed(layers[name], found.dropped)
        if before == after:
            kept[name] = _why_kept(dependencies, name, name in unknown)
        else:
            sizes = f"{before.G * before.K}x{before.C} channels of it are {after.G * after.K}x{after.C}"
            shrunk[name] = f"{sizes}, {before.macs:,} multiplications {after.macs:,}; {_whole(found, share)}"
    return Selection(groups, shrunk, kept)


def _whole(found: Allocation, share: float) -> str:
    gone = 1 - found.left / found.macs
    missed = "" if gone >= share - 0.03 else f" of {100 * share:.0f} % asked, no more may go"
    return f"{100 * gone:.1f} % of the network's are gone{missed}"


def _why_kept(dependencies: Dependencies, layer: str, is_unknown: bool) -> str:
    reason = dependencies.why_kept(layer)
    if not reason and is_unknown:
        reason = (
            "they have no batch norm, by whose factor the criterion bn ranks them; choose another criterion"
        )
    return f"its channels stay: {reason}" if reason else "dropping others costs less"
