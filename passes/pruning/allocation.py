"""Allocation: how many channels of each group go, until a share of the multiplications is gone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tersor.layer import Layer
from tersor.passes.pruning.dependency import Dependencies, Group
from tersor.passes.pruning.importance import Scores

TOLERANCE = 0.02  # of the dense network's multiplications, around what is asked for
LEAST = 0.125  # of a group's channels that stay at the least
FINEST = 4  # steps in which a group can shrink, at the least: narrow layers go in steps smaller than a vector


@dataclass(frozen=True)
class Allocation:
    """The classes that go, and the multiplications before and after."""

    dropped: frozenset[int]
    macs: int
    left: int


@dataclass
class _Shrinking:
    """A group's classes, those of least importance first, and how many of them are gone."""

    group: Group
    order: list[int]
    step: int
    least: int
    gone: int = 0

    def next(self) -> list[int]:
        """Give the classes that would go next: as many as bring the width to the next multiple of a step."""
        left = len(self.order) - self.gone
        count = (left - 1) % self.step + 1
        return self.order[self.gone : self.gone + count] if left - count >= self.least else []


def allocate(
    dependencies: Dependencies,
    layers: Mapping[str, Layer],
    free: Callable[[Group], bool],
    scores: Scores,
    share: float,
    lanes: int,
    uniform: bool,
) -> Allocation:
    """Drop channels in steps of a vector's `lanes` until `share` of the multiplications of `layers` is gone.

    Each step goes to the group of those that `free` allows that loses the least importance for the
    multiplications saved, or with `uniform` to the one that has the greatest part of its channels left. Ends
    within TOLERANCE where steps allow it, or where no group has channels left to give.
    """
    shrinking = [_begin(dependencies, group, scores, lanes) for group in dependencies.groups if free(group)]
    dense = sum(layer.macs for layer in layers.values())
    target, reach = (1 - share) * dense, TOLERANCE * dense
    dropped: frozenset[int] = frozenset()
    left = dense
    readers = _touched(dependencies, layers)
    while left > target:
        found: list[tuple[float, int, int]] = []  # price, the group's place, multiplications left
        for place, each in enumerate(shrinking):
            if step := each.next():
                after = left - _saved(dependencies, readers[each.group.layers], dropped, step)
                if after < left:
                    found.append((_price(each, step, scores, left - after, uniform), place, after))
        near = [step for step in found if step[2] >= target - reach / 2]
        if not near:
            # Every step goes too far: the shortest is taken if it ends nearer than staying.
            shortest = max(found, key=lambda step: (step[2], -step[1]), default=None)
            if shortest is None or target - shortest[2] >= left - target:
                break
            near = [shortest]
        _, place, left = min(near)
        dropped |= frozenset(shrinking[place].next())
        shrinking[place].gone += len(shrinking[place].next())
    return Allocation(dropped, dense, left)


def _begin(dependencies: Dependencies, group: Group, scores: Scores, lanes: int) -> _Shrinking:
    """Sort a group's classes; its step is in classes, of which a grouped layer has one channel per group."""
    total = len(group.classes)
    widest = min(len(dependencies.outputs[layer]) // total or 1 for layer in group.layers)
    step = max(1, lanes // widest)
    while step > 1 and total < FINEST * step:
        step //= 2
    order = sorted(group.classes, key=lambda each: (scores.get(each, 0.0), -each))
    return _Shrinking(group, order, step, max(step, round(LEAST * total), 1))


def _price(each: _Shrinking, step: list[int], scores: Scores, saved: int, uniform: bool) -> float:
    if uniform:
        return (each.gone + len(step)) / len(each.order)
    return sum(scores.get(one, 0.0) for one in step) / saved


def _touched(dependencies: Dependencies, layers: Mapping[str, Layer]) -> dict[tuple[str, ...], list[Layer]]:
    """Give by group the layers that shrink with it: those that make its channels and those that read them."""
    found = {}
    for group in dependencies.groups:
        mine = set(group.classes)
        readers = [name for name, classes in dependencies.inputs.items() if mine & set(classes.tolist())]
        found[group.layers] = [
            layers[name] for name in dict.fromkeys((*group.layers, *readers)) if name in layers
        ]
    return found


def _saved(dependencies: Dependencies, layers: list[Layer], dropped: frozenset[int], step: list[int]) -> int:
    more = dropped | frozenset(step)
    return sum(
        dependencies.narrowed(layer, dropped).macs - dependencies.narrowed(layer, more).macs
        for layer in layers
    )
