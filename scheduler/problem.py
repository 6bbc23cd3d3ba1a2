"""Problem: what a search chooses from. A policy takes one choice of each group of layers.

A choice is a scheme with mappings, so compression and the loop nest are chosen together: a layer has one
choice for each scheme and each mapping of it that no other mapping beats in both time and energy.
"""

from collections.abc import Callable, Hashable
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import fsum
from typing import Self, TypeVar, cast

from tersor.cost import Cost
from tersor.mapping import Mapping
from tersor.scheduler.homes import Homes
from tersor.scheme import Scheme

Found = TypeVar("Found")


@dataclass(frozen=True)
class Choice:
    """A scheme for a group of layers, where their parts run, and what both take.

    `mappings` are by the names of layers, and of the layers that a factor makes of one; `cost` is that of all
    layers of the group, their weight stored once; `loss` is by how much the scheme changes the network's
    output by itself, a part of the additive estimate.
    """

    scheme: Scheme
    cost: Cost
    loss: float
    mappings: Dictionary[str, Mapping] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.loss >= 0:
            raise ValueError(f"a loss is not negative, got {self.loss} of {self.scheme}")


Policy = Dictionary[str, Choice]  # by the name of a group's first layer
CarriedOut = Callable[[Dictionary[str, Scheme]], Dictionary[str, Scheme]]  # of layers, by their names


@dataclass(frozen=True)
class Problem:
    """The choices of each group of layers that get one scheme (most are of one layer).

    `groups` gives the layers of each, by the first of them; `rest` is the cost of what no choice changes,
    `homes` what stays on the chip of an accelerator. `carried_out` says what the compiler makes of the
    schemes of all layers: inputs are as wide as the widest reader of their tensors. So those of a group are
    no narrower than those of the groups that `no_narrower` names for it.
    """

    choices: Dictionary[str, tuple[Choice, ...]]
    groups: Dictionary[str, tuple[str, ...]]
    rest: Cost = field(default_factory=Cost)
    homes: Homes | None = None
    no_narrower: Dictionary[str, tuple[str, ...]] = field(default_factory=dict)
    carried_out: CarriedOut = dict

    def __post_init__(self) -> None:
        if self.choices.keys() != self.groups.keys():
            raise ValueError("each group of layers needs choices, and choices a group")
        if empty := [name for name, row in self.choices.items() if not row]:
            raise ValueError(f"{empty[0]} has nothing to choose from")

    @cached_property
    def size(self) -> int:
        """How many policies there are."""
        size = 1
        for row in self.choices.values():
            size *= len(row)
        return size

    def cost(self, policy: Policy) -> Cost:
        """What a policy takes: its choices one after the other, and the rest.

        Sums of fractions are rounded once, so that the order of the groups makes no difference to them.
        """
        parts = [self.rest, *(policy[name].cost for name in self.choices)]
        return replace(
            sum(parts, start=Cost()),
            seconds=fsum(part.seconds for part in parts),
            energy=fsum(part.energy for part in parts),
        )

    def loss(self, policy: Policy) -> float:
        """The additive estimate of how much a policy changes the network's output."""
        return fsum(policy[name].loss for name in self.choices)

    def schemes(self, policy: Policy) -> dict[str, Scheme]:
        """The scheme of each layer."""
        return {layer: policy[name].scheme for name, group in self.groups.items() for layer in group}

    def only(self, kept: Callable[[str, Choice], bool]) -> Self:
        """The problem with those choices alone for which `kept` holds of a group's name and the choice.

        Whatever is left can be picked, also what is carried out wider. Raises ValueError if a group would
        have none.
        """
        choices = {
            name: tuple(each for each in row if kept(name, each)) for name, row in self.choices.items()
        }
        return replace(self, choices=choices, no_narrower={})

    def once(self, question: Hashable, answer: Callable[[], Found]) -> Found:
        """Give the answer to a question on this problem, found at the first time it is asked.

        Searches ask the same again and again, and the problem never changes.
        """
        if question not in self._answers:
            self._answers[question] = answer()
        return cast(Found, self._answers[question])

    @cached_property
    def _answers(self) -> dict[Hashable, object]:
        return {}
