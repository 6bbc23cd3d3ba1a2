"""Plans: what a policy of a search is as a plan, and by which name it is known."""

from collections.abc import Mapping
from dataclasses import dataclass

from tersor.autoscheduler.page.amounts import amount
from tersor.cost import Cost
from tersor.network import Network
from tersor.plan import LayerPlan, Plan
from tersor.recipe import Recipe
from tersor.scheduler.contract import Quantity
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheme import FP32, Scheme


@dataclass(frozen=True)
class Origin:
    """What all plans of a search have in common: hashes of model and statistics, the machine, the recipe."""

    model: str
    hardware: str
    statistics: str
    recipe: Recipe

    def plan(self, problem: Problem, policy: Policy, network: Network, why: Mapping[str, str]) -> Plan:
        """Write a policy as a plan; layers that it says nothing of stay fp32, `why` has reasons by layer."""
        schemes = {layer.name: FP32 for layer in network.layers} | problem.schemes(policy)
        carried = problem.carried_out(schemes)
        edges = problem.homes.edges(network, carried) if problem.homes else ()
        chosen = {name: (policy[first], first) for first, group in problem.groups.items() for name in group}
        layers: dict[str, LayerPlan] = {}
        for layer in network.layers:
            if layer.name not in chosen:
                layers[layer.name] = LayerPlan(FP32, reason=why.get(layer.name, ""))
                continue
            choice, first = chosen[layer.name]
            parts = layer.factored(choice.scheme.factor) if choice.scheme.factor else (layer,)
            mappings = [choice.mappings[part.name] for part in parts if part.name in choice.mappings]
            said = [_taken(choice) if layer.name == first else f"tied to {first}", why.get(layer.name, "")]
            reason = "; ".join(filter(None, said))
            layers[layer.name] = LayerPlan(choice.scheme, tuple(mappings), reason)
        return Plan(self.model, self.hardware, layers, self.statistics, self.recipe, edges=edges)


def _taken(choice: Choice) -> str:
    return f"{_cost_text(choice.cost)}, loss {choice.loss:.3g} (predicted)"


def _cost_text(cost: Cost) -> str:
    """A cost in short words; what is 0 is not known."""
    taken: dict[Quantity, float] = {"latency": cost.seconds, "energy": cost.energy, "size": cost.size}
    return ", ".join(amount(quantity, value) for quantity, value in taken.items() if value)


def key_of(schemes: Mapping[str, Scheme]) -> str:
    """A text that is the same for the same schemes of all layers that are not fp32."""
    return " ".join(f"{name}={scheme}" for name, scheme in sorted(schemes.items()) if scheme != FP32)
