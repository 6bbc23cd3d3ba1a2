"""Channel plans: which channels go, written into a plan whose schemes ask for fewer of them."""

from dataclasses import replace

import tvm

from tersor.config import Config
from tersor.error import UserError
from tersor.needs import BY_DATA
from tersor.network import Network
from tersor.passes.pruning.selection import select_channels
from tersor.plan import LayerPlan, Plan
from tersor.rank_rule import parse_request
from tersor.scheme import Scheme
from tersor.sparsity import Channels
from tersor.statistics import Statistics


def chooses_by_data(request: Plan | Config | str) -> bool:
    """Whether channels are to be chosen by what calibration sees: before there is a plan."""
    if isinstance(request, Plan):
        schemes, recipe = [layer.scheme for layer in request.layers.values()], request.recipe
        if request.groups:
            return False
    else:
        config = request if isinstance(request, Config) else Config(scheme=request)
        texts = [] if config.scheme == "auto" else [parse_request(config.scheme)[0]]
        schemes, recipe = [*texts, *(rule.scheme for rule in config.rules)], config.recipe
    return recipe.criterion in BY_DATA and any(isinstance(each.sparsity, Channels) for each in schemes)


def goes_by_gradients(request: Plan | Config | str) -> bool:
    """Whether pruning goes by the gradients of a loss."""
    return not isinstance(request, str) and request.recipe.criterion == "taylor"


def with_groups(
    plan: Plan, mod: tvm.IRModule, network: Network, statistics: Statistics | None, lanes: int
) -> Plan:
    """Give the plan with the groups of channels that its schemes ask for; one that has groups as it is.

    Layers that stay as they are have no `Channels` then, and the reason. Kept widths are multiples of `lanes`
    where layers are wide enough. Raises UserError if no channels may go at all.
    """
    schemes = {name: layer.scheme for name, layer in plan.layers.items()}
    if plan.groups or not any(isinstance(each.sparsity, Channels) for each in schemes.values()):
        return plan
    origin = statistics.origin or statistics if statistics else None
    found = select_channels(mod, network, schemes, plan.recipe.criterion, origin, lanes)
    if not found.groups:
        name, why = next(iter(found.kept.items()))
        raise UserError(f"no channels may be dropped: {name!r}: {why}; take another sparsity")
    layers = dict(plan.layers)
    for name, said in found.shrunk.items():
        layers[name] = _with_reason(layers[name], said)
    for name, why in found.kept.items():
        kept = replace(layers[name], scheme=replace(layers[name].scheme, sparsity=None))
        layers[name] = _with_reason(kept, f"no {schemes[name].sparsity}: {why}")
    return replace(plan, layers=layers, groups=found.groups)


def without_channels(scheme: Scheme) -> Scheme:
    """Give what is left of a scheme once its channels are gone: an ordinary dense layer."""
    return replace(scheme, sparsity=None) if isinstance(scheme.sparsity, Channels) else scheme


def _with_reason(layer: LayerPlan, said: str) -> LayerPlan:
    return replace(layer, reason="; ".join(filter(None, (layer.reason, said))))
