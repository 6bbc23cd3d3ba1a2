"""Machine: what a search needs to know of what the network will run on, an accelerator or this CPU."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tersor.model import Model
from tersor.network import Network
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.space import Space
from tersor.scheme import Scheme

Show = Callable[[int, int], None]
LossTable = Mapping[str, Mapping[Scheme, float]]  # by the first layer of a group


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

    def check(self, contract: Contract) -> None:
        """Raise UserError for what this machine cannot say or bound."""
        ...

    def space(self, network: Network, name: str) -> Space:
        """The schemes of a layer, that which changes least first."""
        ...

    def problem(self, network: Network, losses: LossTable, show: Show) -> Problem:
        """The choices of the groups, whose schemes are those with a loss."""
        ...

    def refined(self, network: Network, problem: Problem, policy: Policy, contract: Contract) -> Policy:
        """The same schemes with the best mappings that more effort finds."""
        ...
