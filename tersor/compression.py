"""Compression: carry out a plan on a canonical float module.

equalize > channels > decompose > prune > quantize > integerize > encode

The result says exactly what is computed and runs on any target.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import tvm

from tersor.channel_plan import without_channels
from tersor.error import UserError
from tersor.formats.encoded import Encoded
from tersor.ir.chains import find_gathers
from tersor.ir.graph import Graph
from tersor.ir.recurrent import find_recurrences
from tersor.ir.schemes import with_schemes
from tersor.needs import is_equalized
from tersor.passes.canonicalize import Canonicalize
from tersor.passes.decomposition.decompose import decompose
from tersor.passes.encode import encode, thinned_floats
from tersor.passes.integerize import integerize
from tersor.passes.pruning.channels import drop_channels, narrowed_statistics
from tersor.passes.pruning.prune import prune
from tersor.passes.quantization.equalization import equalize
from tersor.passes.quantization.imported import as_float, came_quantized, imported_layers
from tersor.passes.quantization.quantize import quantize
from tersor.passes.quantization.rounding.by_recipe import ByRecipe
from tersor.passes.quantization.tensors import settled
from tersor.passes.quantization.weights import Weights
from tersor.plan import Plan
from tersor.scheme import Scheme
from tersor.statistics import Statistics

Pass = Callable[[tvm.IRModule], tvm.IRModule]


def canonical(mod: tvm.IRModule) -> tvm.IRModule:
    """Bring a module to canonical form; one that is in it stays as it is."""
    canonicalize: Any = Canonicalize()
    return canonicalize(mod)


def compress(mod: tvm.IRModule, plan: Plan, statistics: Statistics | None) -> tvm.IRModule:
    """Carry out a plan's schemes: the result says exactly what is computed and runs on any target.

    Raises UserError if a layer is to be quantized and `statistics` is missing or lacks its tensors.
    """
    mod, schemes, encoded = round_layers(mod, plan, statistics)
    if came_quantized(mod) or any(scheme.weight for scheme in schemes.values()):
        dynamic = [name for name, scheme in schemes.items() if scheme.dynamic]
        mod = named("integerize", partial(integerize, dynamic=dynamic))(mod)
    return with_schemes(named("encode", partial(encode, encoded=encoded))(mod), schemes)


def round_layers(
    mod: tvm.IRModule, plan: Plan, statistics: Statistics | None
) -> tuple[tvm.IRModule, dict[str, Scheme], dict[str, Encoded]]:
    """Carry out a plan as far as other tools can follow: float operators, rounding written between them.

    Gives the module, the schemes of its layers, and how their weights are stored. Raises UserError as
    `compress` does.
    """
    if came_quantized(mod):
        schemes = {name: layer.scheme for name, layer in plan.layers.items()}
        kept = {name for name, scheme in schemes.items() if scheme.weight}
        return as_float(mod, set(imported_layers(mod)) - kept), schemes, {}
    mod, schemes = reshape_layers(mod, plan, statistics)
    schemes = settled(mod, schemes)
    graph = Graph(mod)
    tables = {each.layer for each in find_gathers(graph)}
    recurrent = {each.layer for each in find_recurrences(graph)}  # their biases take up nothing
    weights = Weights(ByRecipe(plan.recipe, schemes, statistics or Statistics({}), tables, recurrent))
    weights.encoded.update(thinned_floats(mod, schemes))
    if any(scheme.weight for scheme in schemes.values()):
        if statistics is None:
            raise UserError(
                "the plan quantizes activations, which needs calibration statistics: "
                "pass statistics=calibrate(...)"
            )
        rounded = partial(
            quantize,
            schemes=schemes,
            statistics=statistics,
            method=plan.recipe.calibration,
            correct_bias=plan.recipe.bias_correction,
            weights=weights,
        )
        mod = named("quantize", rounded)(mod)
    return mod, schemes, weights.encoded


def reshape_layers(
    mod: tvm.IRModule, plan: Plan, statistics: Statistics | None
) -> tuple[tvm.IRModule, dict[str, Scheme]]:
    """Equalize, narrow, factor and thin the weights, still in float: the module and its layers' schemes.

    In this order: equalize > channels > decompose > prune. All of it goes by the statistics of the network as
    it came: the `origin` of `statistics`, or itself where it has none.
    """
    origin = statistics.origin or statistics if statistics else None
    recipe = plan.recipe
    if is_equalized(plan):
        mod, origin = equalize(mod, origin, recipe.equalize, recipe.smooth)
    schemes = {name: without_channels(layer.scheme) for name, layer in plan.layers.items()}
    narrow = partial(drop_channels, groups=plan.groups, statistics=origin, repair=recipe.repair)
    origin = narrowed_statistics(mod, plan.groups, origin) if origin else None
    mod = named("channels", narrow)(mod)
    mod, schemes = decompose(mod, schemes, origin, recipe)
    thin = partial(prune, schemes=schemes, statistics=origin, recipe=recipe)
    return named("prune", thin)(mod), schemes


def named(name: str, function: Pass) -> Any:
    """Make a TVM pass of a function, so that instruments of the surrounding context see it."""
    return tvm.transform.module_pass(lambda mod, _: function(mod), opt_level=0, name=f"tersor.{name}")
