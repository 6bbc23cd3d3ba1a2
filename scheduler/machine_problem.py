"""Machine problem: what a search chooses from on an accelerator, its costs added up over layers.

A tensor is written as wide as what reads it, so one layer's cost depends on the schemes of others. In the
problem each layer pays for its own width twice: when it reads the tensor and, in proportion to how many read
it, when the layer before writes it. `policy_cost` is without this estimate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tersor.cost import Cost
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.mapping import Mapping as Loops
from tersor.network import Network
from tersor.scheduler.contract import Contract
from tersor.scheduler.costs import Asked, Costs
from tersor.scheduler.points import Point, Points, after_another
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.widths import output_bits, readers
from tersor.scheme import Scheme

Schemes = Mapping[str, Sequence[Scheme]]
Losses = Mapping[str, Mapping[Scheme, float]]


def problem(
    network: Network,
    schemes: Schemes,
    losses: Losses,
    costs: Costs,
    show: Callable[[int, int], None] = lambda done, of: None,
) -> Problem:
    """Give the choices of each layer in `schemes`: its schemes, each with the mappings that matter.

    Of tied layers the first one's schemes are taken, and it pays for their weight; `losses` are by the same
    names. Layers that are not in `schemes` run in int8, or as what the machine makes of it, and are in `rest`
    with those that it cannot run at all, which take nothing. Searches what `costs` does not know yet, and
    `show` hears of it. Raises ValueError if the machine cannot run a scheme, with the reason.
    """
    return _Builder(network, schemes, costs).problem(losses, show)


def policy_cost(network: Network, chosen: Problem, policy: Policy, costs: Costs) -> Cost:
    """What a policy of such a problem takes, where each tensor is as wide as the widest of its readers."""
    return as_carried_out(network, chosen, policy, costs)[1]


def as_carried_out(
    network: Network, chosen: Problem, policy: Policy, costs: Costs
) -> tuple[dict[str, Choice], Cost]:
    """Give a policy of such a problem the mappings by which its layers run, and say what it takes.

    They are its own, but for a layer that the compiler gives another scheme, or whose tensors do not stay
    where its own are for: that gets the best mapping.
    """
    layers, size = chosen.schemes(policy), 0
    own: dict[str, Loops] = {}
    for choice in policy.values():
        own |= choice.mappings
        size += choice.cost.size
    schemes = chosen.carried_out(
        {each.name: layers.get(each.name, costs.reference(each)) for each in network.layers}
    )
    running = {name: costs.running(network[name], scheme) for name, scheme in schemes.items()}
    wide = output_bits(network, running)
    moved = costs.homes.moved(running) if costs.homes else ()
    points: dict[str, Point] = {}
    for layer in network.layers:
        scheme, bits = schemes[layer.name], wide.get(layer.name)
        if costs.why_not(layer, scheme):
            continue
        if layer.name in moved:
            points[layer.name] = costs.moving.best(layer, scheme, bits)
        elif scheme == layers.get(layer.name):
            points[layer.name] = costs.of_mappings(layer, scheme, own, bits)
        else:
            points[layer.name] = costs.best(layer, scheme, bits)
        if layer.name not in layers:
            size += costs.size(layer, scheme)
    carried = {
        first: replace(choice, mappings=_mappings(chosen.groups[first], points))
        for first, choice in policy.items()
    }
    return carried, _cost(sum(points.values(), start=Point(0.0, 0.0)), size, costs.hardware)


def check_energy(contract: Contract, hardware: Hardware) -> None:
    """Refuse a contract that asks for energy of a machine whose energies are not known. Raises UserError."""
    known = any(unit.energy_per_mac for unit in hardware.compute)
    known = known or any(each.energy_per_byte or each.write_energy for each in hardware.memories)
    asked = contract.minimize in ("energy", "edp") or contract.max_energy is not None
    if asked and not known:
        raise UserError(
            f"{hardware.name} gives no energies: add energy_per_mac and energy_per_byte to its description, "
            "or ask for latency, size or drop alone"
        )


@dataclass
class _Builder:
    """What is needed more than once while a problem is built."""

    network: Network
    schemes: Schemes
    costs: Costs

    def problem(self, losses: Losses, show: Callable[[int, int], None]) -> Problem:
        self.costs.prepare(self._asked(), show)
        choices: dict[str, tuple[Choice, ...]] = {}
        for name, group in self._groups.items():
            choices[name] = tuple(
                choice
                for scheme in self.schemes[name]
                for choice in self._choices(group, scheme, losses[name][scheme])
            )
        return Problem(choices, self._groups, self._rest(), self.costs.homes)

    @cached_property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        """The layers that get one scheme, by the first of them."""
        tied = {group[0]: group for group in self.network.tied}
        copies = {name for group in self.network.tied for name in group[1:]}
        return {
            layer.name: tied.get(layer.name, (layer.name,))
            for layer in self.network.layers
            if layer.name in self.schemes and layer.name not in copies
        }

    @cached_property
    def _possible(self) -> dict[str, tuple[Scheme, ...]]:
        """The schemes that each layer may have."""
        found = {name: tuple(self.schemes[first]) for first, group in self._groups.items() for name in group}
        for layer in self.network.layers:
            found.setdefault(layer.name, (self.costs.reference(layer),))
        return found

    @cached_property
    def _readers(self) -> dict[str, tuple[str, ...]]:
        return readers(self.network)

    @cached_property
    def _read(self) -> dict[str, list[str]]:
        """The layers whose output each layer reads."""
        found: dict[str, list[str]] = {}
        for producer, consumers in self._readers.items():
            for consumer in consumers:
                found.setdefault(consumer, []).append(producer)
        return found

    def _input_bits(self, name: str, scheme: Scheme) -> int:
        return self.costs.running(self.network[name], scheme).input_bits

    @cached_property
    def _widths(self) -> dict[str, tuple[int, ...]]:
        """The bits that the output of each layer may have, the fewest first."""
        return {
            name: tuple(
                sorted(
                    {self._input_bits(each, scheme) for each in consumers for scheme in self._possible[each]}
                )
            )
            for name, consumers in self._readers.items()
        }

    def _asked(self) -> list[Asked]:
        """All that is asked for; of widths the fewest for each choice, each one for the reference."""
        asked: list[Asked] = []
        for layer in self.network.layers:
            wide = self._widths.get(layer.name)
            asked += [(layer, scheme, wide[0] if wide else None) for scheme in self._possible[layer.name]]
            asked += [(layer, self.costs.reference(layer), bits) for bits in wide or ()]
        return asked

    def _choices(self, group: tuple[str, ...], scheme: Scheme, loss: float) -> list[Choice]:
        first = self.network[group[0]]
        size = self.costs.size(first, scheme)
        carried = [self._carried(name, scheme) for name in group]
        front = after_another([self._own(name, scheme) for name in group])
        return [
            Choice(scheme, _cost(sum(carried, start=point), size, self.costs.hardware), loss, point.mappings)
            for point in front
        ]

    def _own(self, name: str, scheme: Scheme) -> Points:
        """What a layer takes if its output is as narrow as its readers may want it."""
        wide = self._widths.get(name)
        return self.costs.front(self.network[name], scheme, wide[0] if wide else None)

    def _carried(self, name: str, scheme: Scheme) -> Point:
        """The share of what it takes the layers before to write the input no narrower than this."""
        bits, total = self._input_bits(name, scheme), Point(0.0, 0.0)
        for producer in self._read.get(name, ()):
            layer = self.network[producer]
            reference = self.costs.reference(layer)
            if self.costs.why_not(layer, reference) or layer.operator == "gather":
                continue
            narrow, wide = (
                self.costs.best(layer, reference, each) for each in (self._widths[producer][0], bits)
            )
            share = 1 / len(self._readers[producer])
            total += Point(
                max(wide.cycles - narrow.cycles, 0.0) * share, max(wide.energy - narrow.energy, 0.0) * share
            )
        return total

    def _rest(self) -> Cost:
        """Layers without a choice that the machine can run, in what int8 is there."""
        total, size = Point(0.0, 0.0), 0
        chosen = {name for group in self._groups.values() for name in group}
        for layer in self.network.layers:
            scheme = self.costs.reference(layer)
            if layer.name in chosen or self.costs.why_not(layer, scheme):
                continue
            total += min(self._own(layer.name, scheme), key=lambda point: point.edp)
            total += self._carried(layer.name, scheme)
            size += self.costs.size(layer, scheme)
        return _cost(total, size, self.costs.hardware)


def _mappings(group: Sequence[str], points: Mapping[str, Point]) -> dict[str, Loops]:
    return {part: loops for name in group if name in points for part, loops in points[name].mappings.items()}


def _cost(point: Point, size: int, hardware: Hardware) -> Cost:
    return Cost(seconds=point.cycles / hardware.clock, energy=point.energy, size=size)
