"""Needs: of which layers a plan's algorithms need Gram matrices or gradients. One calibration gathers all."""

from collections.abc import Mapping

from tersor.factor import SVDSoftmax
from tersor.plan import Plan
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.sparsity import Channels

BY_OUTPUT = ("gptq", "adaround", "entropy")
"""Roundings that go by what the layer's output loses."""

BY_INPUT = ("wanda", "obc")
"""Criteria that weigh a weight by its inputs."""

BY_DATA = (*BY_INPUT, "taylor")
"""Criteria that need samples."""


def reshapes(plan: Plan) -> bool:
    """Whether a plan changes weights or tensors before they are rounded, so that ranges are others then."""
    schemes = [layer.scheme for layer in plan.layers.values()]
    return (
        is_equalized(plan) or bool(plan.groups) or any(scheme.factor or scheme.sparsity for scheme in schemes)
    )


def is_equalized(plan: Plan) -> bool:
    """Whether the scales of channels are moved, which only a network that is rounded gains from."""
    asked = plan.recipe.equalize or plan.recipe.smooth > 0
    return asked and any(layer.scheme.weight for layer in plan.layers.values())


def grams_to_reshape(plan: Plan) -> set[str]:
    """Name the layers of the network as it came whose Gram matrices its pruning and factoring need."""
    recipe, schemes = plan.recipe, {name: layer.scheme for name, layer in plan.layers.items()}
    prunes_by_data = recipe.repair or recipe.criterion in BY_INPUT
    if prunes_by_data and any(isinstance(scheme.sparsity, Channels) for scheme in schemes.values()):
        return set(schemes)  # layers behind a narrowed one are repaired as well
    needed = {name for name, scheme in schemes.items() if scheme.sparsity and prunes_by_data}
    if recipe.data_aware:
        needed |= {
            name
            for name, scheme in schemes.items()
            if scheme.factor and not isinstance(scheme.factor, SVDSoftmax)
        }
    return needed


def saliencies_to_reshape(plan: Plan) -> set[str]:
    """Name the layers whose pruning goes by gradients; channels that the plan has chosen need none."""
    if plan.recipe.criterion != "taylor":
        return set()
    schemes = {name: layer.scheme for name, layer in plan.layers.items()}
    return {
        name for name, each in schemes.items() if each.sparsity and not isinstance(each.sparsity, Channels)
    }


def grams_to_round(recipe: Recipe, schemes: Mapping[str, Scheme]) -> set[str]:
    """Name the layers of the reshaped network whose Gram matrices their rounding needs."""
    if recipe.rounding not in BY_OUTPUT:
        return set()
    return {name for name, scheme in schemes.items() if scheme.weight}
