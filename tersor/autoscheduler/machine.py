"""Machine: what a search needs to know of what the network will run on, an accelerator or this CPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tersor.cost import Cost
from tersor.layer import Layer
from tersor.network import Network
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.space import Space
from tersor.scheme import Scheme

Show = Callable[[int, int], None]
Left = Callable[[], float]  # s
Schemes = Mapping[str, Sequence[Scheme]]  # by the first layer of each group
Losses = Mapping[str, Mapping[Scheme, float]]


@dataclass(frozen=True)
class Rated:
    """A policy and what it takes."""

    policy: Policy
    cost: Cost


class Machine(Protocol):
    """Says which schemes layers may have, and what they take."""

    @property
    def name(self) -> str:
        """As plans name it."""
        ...

    @property
    def digest(self) -> str:
        """A text that differs where costs differ."""
        ...

    def space(self, layer: Layer) -> Space:
        """The schemes of a layer that the compiler can carry out for it, that which changes least first."""
        ...

    def blind(self) -> "Machine":
        """The same for a compression that knows nothing of it, whose formats may be run in wider ones."""
        ...

    def settle(self, network: Network, schemes: Schemes, show: Show, left: Left) -> Any:
        """Find out what takes time, as much of it as there are seconds left.

        What this came to, as JSON: `settled` with it makes the same decisions at another time. `show` may end
        it, by raising TimeUp, before there is what it cannot do without.
        """
        ...

    def settled(self, found: Any) -> "Machine":
        """The machine that goes by what `settle` gave."""
        ...

    def problem(self, network: Network, schemes: Schemes, losses: Losses, show: Show) -> Problem:
        """The choices of the groups of layers."""
        ...

    def rated(self, network: Network, problem: Problem, policy: Policy) -> Rated:
        """The policy as it runs, and what it takes, without what the problem's sums leave out."""
        ...

    def refined(
        self, network: Network, problem: Problem, policy: Policy, contract: Contract, show: Show
    ) -> "Rated":
        """The same schemes with the best mappings that more effort finds; what `show` raises ends it."""
        ...


def with_compiler(space: Space, layer: Layer, why_not: Callable[[Layer, Scheme], str | None]) -> Space:
    """Leave out of a machine's space what the compiler has no form for, with its reason."""
    legal: list[Scheme] = []
    refused = list(space.refused)
    for scheme in space.legal:
        if reason := why_not(layer, scheme):
            refused.append((scheme, reason))
        else:
            legal.append(scheme)
    return Space(space.layer, tuple(legal), tuple(refused))
