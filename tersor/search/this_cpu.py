"""This CPU: layers' times by a model of its kernels; the finalists' times are measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tersor.cost import Cost
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.network import Network
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.space import Space, candidates, explore
from tersor.scheme import Scheme
from tersor.search.machine import Losses, Rated, Schemes, Show
from tersor.targets.cpu.host.cost import estimate, why_not
from tersor.weight_format import Integer

W4A8 = Scheme(weight=Integer(4), input=Integer(8))  # decoded when it loads: smaller, and as fast as int8


@dataclass(frozen=True)
class ThisCpu:
    """The host; `costs` says what a layer takes under a scheme."""

    hardware: Hardware
    costs: Callable[[Layer, Scheme], Cost]
    version: str  # of what `costs` says

    @classmethod
    def of(cls, hardware: Hardware) -> "ThisCpu":
        """The host by its analytic model."""
        return cls(hardware, partial(estimate, hardware=hardware), "analytic")

    @property
    def name(self) -> str:
        """As plans name it."""
        return self.hardware.name

    @property
    def digest(self) -> str:
        """A text that differs where costs differ."""
        return f"{self.hardware!r} {self.version}"

    def check(self, contract: Contract) -> None:
        """Raise UserError for a contract about energy."""
        if contract.minimize in ("energy", "edp") or contract.max_energy is not None:
            raise UserError(
                "of this CPU no energies are known: ask for latency, size or drop, or give an accelerator "
                "as --hardware"
            )

    def space(self, layer: Layer) -> Space:
        """The schemes that have kernels here."""
        schemes = list(candidates(layer))
        if layer.weight_bearing and layer.operator != "gather":
            schemes.append(W4A8)
        return explore(layer, partial(why_not, hardware=self.hardware), schemes)

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

    def cost(self, network: Network, problem: Problem, policy: Policy) -> Cost:
        """The sum over layers."""
        return problem.cost(policy)

    def refined(
        self, network: Network, problem: Problem, policy: Policy, contract: Contract, show: Show
    ) -> Rated:
        """As they are: there is nothing to refine."""
        return Rated(policy, problem.cost(policy))

    def _of_group(self, network: Network, group: tuple[str, ...], scheme: Scheme) -> Cost:
        costs = [self.costs(network[name], scheme) for name in group]
        return replace(sum(costs[1:], start=costs[0]), size=costs[0].size)
