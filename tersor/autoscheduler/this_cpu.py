"""This CPU: layers' times as measured alone, or by a model of its kernels; finalists are raced whole.

What a tensor costs that changes between codes and floats is not among the costs of layers: the race sees it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tersor.autoscheduler.machine import Left, Losses, Rated, Schemes, Show
from tersor.cost import Cost
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.network import Network
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.space import Space, candidates, explore
from tersor.scheme import Scheme
from tersor.targets.cpu.host.cost import estimate, why_not
from tersor.tuning.cpu_cost import CpuCosts
from tersor.weight_format import Integer

W4A8 = Scheme(weight=Integer(4), input=Integer(8))  # decoded when it loads: smaller, and as fast as int8


@dataclass(frozen=True)
class ThisCpu:
    """The host; without `measured` its analytic model says what a layer takes under a scheme.

    For `measuring` seconds kernels are measured that are not known yet, those of the network first; `seconds`
    of layers by name and scheme are what came of it.
    """

    hardware: Hardware
    measured: CpuCosts | None = None
    measuring: float = 0.0
    seconds: Mapping[str, Mapping[str, float]] | None = None

    @property
    def name(self) -> str:
        """As plans name it."""
        return self.hardware.name

    @property
    def digest(self) -> str:
        """A text that differs where costs differ."""
        return f"{self.hardware!r} {self.measured is not None} {self.measuring}"

    def space(self, layer: Layer) -> Space:
        """The schemes that have kernels here."""
        schemes = list(candidates(layer))
        if layer.weight_bearing and layer.operator != "gather":
            schemes.append(W4A8)
        return explore(layer, partial(why_not, hardware=self.hardware), schemes)

    def blind(self) -> "ThisCpu":
        """Itself: the compiler has no form for what it has no kernel for."""
        return self

    def settle(self, network: Network, schemes: Schemes, show: Show, left: Left) -> Any:
        """Measure kernels, and give the seconds of layers under their schemes; None if all is modelled."""
        if not self.measured:
            return None
        self.measured.train(min(self.measuring, left()), lambda _, done, of: show(done, of or 0))
        layers = {name: [name] for name in schemes} | {
            group[0]: list(group) for group in network.tied if group[0] in schemes
        }
        return {
            name: {str(scheme): self.measured.seconds(network[name], scheme) for scheme in schemes[first]}
            for first, group in layers.items()
            for name in group
        }

    def settled(self, found: Any) -> "ThisCpu":
        """With the times that were found."""
        return replace(self, seconds=found)

    def problem(self, network: Network, schemes: Schemes, losses: Losses, show: Show) -> Problem:
        """One choice for each scheme: which mapping is the best one the target knows."""
        tied = {group[0]: group for group in network.tied}
        groups = {name: tied.get(name, (name,)) for name in schemes}
        choices = {
            name: tuple(
                Choice(scheme, self._of_group(network, groups[name], scheme), losses[name][scheme])
                for scheme in schemes[name]
            )
            for name in schemes
        }
        return Problem(choices, groups)

    def rated(self, network: Network, problem: Problem, policy: Policy) -> Rated:
        """The sum over layers."""
        return Rated(policy, problem.cost(policy))

    def refined(
        self, network: Network, problem: Problem, policy: Policy, contract: Contract, show: Show
    ) -> Rated:
        """As they are: there is nothing to refine."""
        return self.rated(network, problem, policy)

    def _of_group(self, network: Network, group: tuple[str, ...], scheme: Scheme) -> Cost:
        costs = [estimate(network[name], scheme, self.hardware) for name in group]
        if self.seconds is not None:
            times = [self.seconds[name][str(scheme)] for name in group]
            costs = [replace(cost, seconds=time) for cost, time in zip(costs, times, strict=True)]
        return replace(sum(costs[1:], start=costs[0]), size=costs[0].size)
