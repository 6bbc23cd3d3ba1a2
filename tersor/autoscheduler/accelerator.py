"""Accelerator: a described machine, whose model says what every scheme and mapping takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isinf
from typing import TypedDict

from tersor.autoscheduler.budget import TimeUp, until
from tersor.autoscheduler.machine import Left, Losses, Rated, Schemes, Show, with_compiler
from tersor.cost import Cost
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.network import Network
from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.costs import Costs
from tersor.scheduler.coupling import no_narrower
from tersor.scheduler.figures import limits_of, modelled
from tersor.scheduler.homes import Homes
from tersor.scheduler.machine_problem import as_carried_out
from tersor.scheduler.machine_problem import problem as machine_problem
from tersor.scheduler.machine_space import machine_space, whole_space
from tersor.scheduler.model_version import hardware_digest, model_version
from tersor.scheduler.problem import CarriedOut, Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.space import Space
from tersor.scheme import INT8
from tersor.targets.cpu.host.cost import why_not

# The share of the mappings that are tried shortly, and how many times as long it takes to try more: shares of
# them all, and times that were measured on resnet20 and MiniLM-L3 (1.7 and 1.1, as most of it is to rate what
# was found), rounded up for layers that are searched longer.
SHORT = 64
LONGER = ((1, 3.0), (8, 1.5))


class Settled(TypedDict):
    """How many mappings are tried of a shape under a scheme, and how many schemes of each layer."""

    effort: int
    most: int


@dataclass(frozen=True)
class Accelerator:
    """`costs` on a described machine; `host` is the CPU that computes the same, and runs the rest.

    Of the shapes of a finalist `last_effort` mappings are tried. Layers have the first `most` schemes that
    are given for them; None is all. Where `every_format` may be chosen, it runs what it lacks in a wider one.
    `carried_out` says what the compiler makes of the schemes of a network, `homes_on` which of its tensors
    stay on the chip of a machine.
    """

    costs: Costs
    host: Hardware
    last_effort: int
    most: int | None = None
    every_format: bool = False
    carried_out: CarriedOut = dict
    homes_on: Callable[[Hardware], Homes | None] = lambda hardware: None

    @property
    def name(self) -> str:
        """As plans name it."""
        return self.costs.hardware.name

    @property
    def digest(self) -> str:
        """A text that differs where costs differ."""
        formats = " every format" if self.every_format else ""
        return f"{hardware_digest(self.costs.hardware)} {model_version()} {self.costs.effort}{formats}"

    def space(self, layer: Layer) -> Space:
        """The schemes that the machine gains from and the compiler has a form for."""
        space = whole_space if self.every_format else machine_space
        return with_compiler(space(layer, self.costs.hardware), layer, partial(why_not, hardware=self.host))

    def blind(self) -> "Accelerator":
        """The same for a compression that knows nothing of it."""
        return replace(self, every_format=True)

    def on(self, hardware: Hardware) -> "Accelerator":
        """The same for a machine, with the tensors that stay on its chip."""
        return replace(self, costs=replace(self.costs, hardware=hardware, homes=self.homes_on(hardware)))

    def settle(self, network: Network, schemes: Schemes, show: Show, left: Left) -> Settled:
        """The effort and the schemes that there is time for.

        First the layers' schemes are mapped shortly, one of each layer after the other, those down to int8 in
        any case; then all of them well if that will end in time. What was found shortly stays if it does not.
        """
        start, most = left(), max(map(len, schemes.values()), default=0)
        if isinf(start):
            return Settled(effort=self.costs.effort, most=most)
        short = max(1, self.costs.effort // SHORT)
        least = max((row.index(INT8) + 1 for row in schemes.values() if INT8 in row), default=1)
        self._prepare(short, network, _first(schemes, least), show)
        for count in range(least + 1, most + 1):
            try:
                self._prepare(short, network, _first(schemes, count), until(left, show))
            except TimeUp:
                return Settled(effort=short, most=count - 1)
        took = start - left()
        for share, times in LONGER:
            effort = max(1, self.costs.effort // share)
            if times * took > left():
                continue
            try:
                self._prepare(effort, network, schemes, until(left, show))
            except TimeUp:
                break
            return Settled(effort=effort, most=most)
        return Settled(effort=short, most=most)

    def settled(self, found: Settled) -> "Accelerator":
        """With the effort and the schemes that were found to be in time."""
        return replace(self, costs=replace(self.costs, effort=found["effort"]), most=found["most"])

    def _prepare(self, effort: int, network: Network, schemes: Schemes, show: Show) -> None:
        nothing = {name: dict.fromkeys(row, 0.0) for name, row in schemes.items()}
        machine_problem(network, schemes, nothing, replace(self.costs, effort=effort), show)

    def problem(self, network: Network, schemes: Schemes, losses: Losses, show: Show) -> Problem:
        """Each scheme with the mappings that matter."""
        found = machine_problem(network, _first(schemes, self.most), losses, self.costs, show)
        found = replace(found, carried_out=self.carried_out)
        return replace(found, no_narrower=no_narrower(found))

    def rated(self, network: Network, problem: Problem, policy: Policy) -> Rated:
        """The policy by the mappings that it runs by, each tensor as wide as the widest of its readers."""
        return Rated(*as_carried_out(network, problem, policy, self.costs))

    def refined(
        self, network: Network, problem: Problem, policy: Policy, contract: Contract, show: Show
    ) -> Rated:
        """Try more mappings of the chosen schemes; they may stay as they are."""
        costs = replace(self.costs, effort=self.last_effort)
        schemes = {name: (choice.scheme,) for name, choice in policy.items()}
        losses = {name: {choice.scheme: choice.loss} for name, choice in policy.items()}
        thorough = machine_problem(network, schemes, losses, costs, show)
        thorough = replace(thorough, carried_out=self.carried_out)
        found = closest(thorough, modelled(contract.minimize), limits_of(contract)).policy
        before = self.rated(network, problem, policy)
        after = Rated(*as_carried_out(network, thorough, found, costs))
        return min(before, after, key=lambda each: order(each.cost, contract))


def _first(schemes: Schemes, count: int | None) -> Schemes:
    return {name: row[:count] for name, row in schemes.items()}


def order(cost: Cost, contract: Contract) -> tuple[float, float]:
    """A key by which the best come first: what breaks the contract less, then what takes less."""
    excess = max(contract.broken(cost, 0.0).values(), default=0.0)
    return excess, quantity_of(cost, 0.0, contract.minimize)
