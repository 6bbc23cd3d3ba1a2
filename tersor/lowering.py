"""Lowering: the pipeline from a canonical float module and a plan to kernels, for `tvm.compile`.

channels > decompose > prune > quantize > integerize > encode > lower > schedule > Relax's own lowering

tvm.compile(mod, target, relax_pipeline=tersor.pipeline(plan, statistics=statistics))
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic.pipeline import dataflow_lower_passes
from tvm_ffi import register_error

from tersor.channel_plan import with_groups, without_channels
from tersor.config import Config
from tersor.error import UserError
from tersor.factor import LowRank, why_no_chain
from tersor.formats.encoded import Encoded
from tersor.hardware import Hardware
from tersor.ir.chains import find_chains, find_gathers, find_products
from tersor.ir.elementary import legalizations
from tersor.ir.graph import Graph, bind_weights, weights_of
from tersor.ir.join import join
from tersor.ir.recurrent import find_recurrences
from tersor.layer import Layer
from tersor.needs import is_equalized
from tersor.network import Network
from tersor.passes.canonicalize import Canonicalize
from tersor.passes.decomposition.decompose import decompose
from tersor.passes.decomposition.ranks import choose_factor
from tersor.passes.encode import encode, thinned_floats
from tersor.passes.extract import extract, tensor_names
from tersor.passes.integerize import integerize
from tersor.passes.pruning.channels import drop_channels, narrowed_statistics
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.pruning.prune import prune
from tersor.passes.quantization.equalization import equalize
from tersor.passes.quantization.imported import as_float, came_quantized, imported_layers, why_float
from tersor.passes.quantization.quantize import quantize
from tersor.passes.quantization.rounding.by_recipe import ByRecipe
from tersor.passes.quantization.weights import Weights
from tersor.plan import LayerPlan, Plan
from tersor.rank_rule import parse_request
from tersor.rule import assign
from tersor.scheduler.autotune import Limit, tune
from tersor.scheme import FP32, INT8, Scheme
from tersor.statistics import Statistics
from tersor.targets.cpu.decode_once import decode_once
from tersor.targets.cpu.host.cost import estimate, why_not
from tersor.targets.cpu.host.detect import Host, host_of, host_of_target
from tersor.targets.cpu.host.detect import hardware as describe
from tersor.targets.cpu.host.guard import guard
from tersor.targets.cpu.lowering import Lowered, lower
from tersor.targets.cpu.mapping.planned import check_planned
from tersor.targets.cpu.memory import plan_memory
from tersor.targets.cpu.schedule import compact, schedule_module
from tersor.weight_format import Integer, without_groups

Pass = Callable[[tvm.IRModule], tvm.IRModule]
AS_IMPORTED = "as imported"
# Passes of TVM's lowering that take a third of its time for nothing: the first has been done by then to all
# that needs it (see `compact`), the others are for GPUs.
IDLE_PASSES = ("s_tir.CompactBufferAllocation", "s_tir.InjectVirtualThread", "s_tir.InjectPermutedLayout")


def pipeline(
    request: Plan | Config | str = "int8",
    hardware: Hardware | None = None,
    statistics: Statistics | None = None,
) -> Any:
    """Give the pass for `tvm.compile(mod, target, relax_pipeline=...)`.

    `request` is a plan, a config, or the text of a scheme for every layer; `mod` comes from `import_model`.
    Without `hardware` the kernels are for the instruction set of the target that is compiled for. Raises
    UserError, when run, if the request needs activation ranges and `statistics` is missing.
    """

    @tvm.transform.module_pass(opt_level=0, name="tersor.pipeline")
    def run(mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        host = host_of(hardware) if hardware is not None else _current_host()
        mod = canonical(mod)
        plan = plan_for(request, mod, host, statistics)
        compressed = compress(mod, plan, statistics)
        return finish(_named("lower", partial(_lower, host=host, plan=plan))(compressed), host)

    return run


def _lower(mod: tvm.IRModule, host: Host, plan: Plan) -> tvm.IRModule:
    lowered = lower(mod, host.isa, host.cores, mappings=plan.mappings)
    check_planned(plan.mappings, [lowered.mappings])
    return lowered.mod


def _register() -> None:
    @relax.pipeline.register_pipeline("tersor")
    def _by_name(
        request: Plan | Config | str = "int8",
        hardware: Hardware | None = None,
        statistics: Statistics | None = None,
    ) -> Any:
        return pipeline(request, hardware, statistics)

    # Without these, what a pass raises leaves tvm.compile as a RuntimeError.
    register_error("UserError", UserError)
    register_error("KeyboardInterrupt", KeyboardInterrupt)


_register()


def canonical(mod: tvm.IRModule) -> tvm.IRModule:
    """Bring a module to canonical form; one that is in it stays as it is."""
    canonicalize: Any = Canonicalize()
    return canonicalize(mod)


def plan_for(
    request: Plan | Config | str,
    mod: tvm.IRModule,
    host: Host,
    statistics: Statistics | None,
    on_layer: Callable[[str], None] = lambda name: None,
) -> Plan:
    """Give the plan that a request stands for, checked against the module. Raises UserError."""
    network, digest = extract(mod), model_hash(mod)
    described = describe(host)
    if isinstance(request, Plan):
        plan = with_groups(request, mod, network, statistics, host.isa.lanes)
        _check(plan, mod, network, digest, described)
        return plan
    config = _config(request)
    if came_quantized(mod):
        return _as_imported(mod, config, network, described, digest)
    if config.scheme != "auto":
        plan = _by_rules(config, network, described, digest, statistics, weights_of(mod))
        return with_groups(plan, mod, network, statistics, host.isa.lanes)
    if statistics is None:
        raise UserError("choosing a plan needs calibration statistics: pass statistics=calibrate(...)")
    weights = {name: value.astype(np.float32) for name, value in weights_of(mod).items()}
    return tune(
        network,
        weights,
        statistics,
        layer_tensors(mod),
        described,
        partial(why_not, hardware=described),
        partial(estimate, hardware=described),
        config.objective,
        Limit.snr(config.min_snr),
        model=digest,
        recipe=config.recipe,
        on_layer=on_layer,
    )


def _check(plan: Plan, mod: tvm.IRModule, network: Network, digest: str, described: Hardware) -> None:
    """Refuse a plan that is for another model or that this target cannot carry out to the letter."""
    plan.check_model(digest)
    plan.check_layers(layer.name for layer in network.layers)
    if plan.edges:
        raise UserError("this version carries out no edges of a plan: remove them from it")
    if plan.groups and came_quantized(mod):
        raise UserError("the model came quantized, its layers keep their channels: remove the plan's groups")
    if plan.groups:
        Dependencies(Graph(mod)).dropped(plan.groups)
    came = set(imported_layers(mod)) if came_quantized(mod) else None
    for name, layer in plan.layers.items():
        if came is not None and layer.scheme not in (FP32, INT8 if name in came else FP32):
            raise UserError(
                f"the plan gives {name!r} the scheme {layer.scheme}, but the model came quantized: "
                "its layers keep the integers that they have, or are fp32; change it"
            )
        if reason := why_not(network[name], layer.scheme, described):
            raise UserError(f"the plan gives {name!r} the scheme {layer.scheme}, but {reason}: change it")


def layer_tensors(mod: tvm.IRModule) -> dict[str, tuple[str, ...]]:
    """Name the activations that each layer reads and the one it gives, as the statistics do."""
    names, graph = tensor_names(mod), Graph(mod)
    tensors = {chain.layer: (chain.data, chain.result) for chain in find_chains(graph)}
    tensors |= {gather.layer: (gather.result,) for gather in find_gathers(graph)}
    tensors |= {
        product.layer: (product.left, product.right, product.result) for product in find_products(graph)
    }
    # The states go in, and what comes out is added to the gates.
    tensors |= {each.layer: (each.result, each.gates) for each in find_recurrences(graph)}
    return {layer: tuple(_name_of(names, var) for var in found) for layer, found in tensors.items()}


def compress(mod: tvm.IRModule, plan: Plan, statistics: Statistics | None) -> tvm.IRModule:
    """Carry out a plan's schemes: the result says exactly what is computed and runs on any target.

    Raises UserError if a layer is to be quantized and `statistics` is missing or lacks its tensors.
    """
    mod, schemes, encoded = round_layers(mod, plan, statistics)
    if came_quantized(mod) or any(scheme.weight for scheme in schemes.values()):
        dynamic = [name for name, scheme in schemes.items() if scheme.dynamic]
        mod = _named("integerize", partial(integerize, dynamic=dynamic))(mod)
    return _named("encode", partial(encode, encoded=encoded))(mod)


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
        mod = _named("quantize", rounded)(mod)
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
    mod = _named("channels", narrow)(mod)
    mod, schemes = decompose(mod, schemes, origin, recipe)
    thin = partial(prune, schemes=schemes, statistics=origin, recipe=recipe)
    return _named("prune", thin)(mod), schemes


def finish(mod: tvm.IRModule, host: Host) -> tvm.IRModule:
    """Lower a module of kernels to what the virtual machine runs; the rest gets a CPU schedule."""
    with host.target:
        passes = [
            tvm.transform.module_pass(lambda m, _: bind_weights(m), opt_level=0, name="tersor.bind_weights"),
            tvm.transform.module_pass(lambda m, _: decode_once(m), opt_level=0, name="tersor.decode_once"),
            relax.transform.DeadCodeElimination(),
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(legalizations()),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
            tvm.transform.module_pass(
                lambda m, _: schedule_module(m, host.isa.lanes), opt_level=0, name="tersor.schedule"
            ),
            *dataflow_lower_passes(host.target),
            *_machine_passes(),
            tvm.transform.module_pass(lambda m, _: guard(m, host.isa), opt_level=0, name="tersor.guard"),
        ]
        return tvm.transform.Sequential(passes)(mod)


def _machine_passes() -> list[Any]:
    """Give the passes from calls of kernels to the virtual machine's instructions.

    TVM's own pipeline releases each tensor by an instruction of its own; here their blocks end with the run.
    """
    return [
        tvm.transform.module_pass(lambda m, _: plan_memory(m), opt_level=0, name="tersor.plan_memory"),
        relax.transform.LowerAllocTensor(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


def build(lowered: Lowered | Mapping[str, Lowered], host: Host) -> Any:
    """Compile modules of kernels to one executable with a function for each; of one it is `main`."""
    return generate(finished(lowered, host), host)


def finished(lowered: Lowered | Mapping[str, Lowered], host: Host) -> tvm.IRModule:
    """Join modules of kernels and lower them as far as can be without making code; of one it is `main`."""
    named = {"main": lowered} if isinstance(lowered, Lowered) else lowered
    with _without(IDLE_PASSES):
        return compact(finish(join({name: each.mod for name, each in named.items()}), host))


def generate(mod: tvm.IRModule, host: Host) -> Any:
    """Make an executable of a finished module."""
    with _without(IDLE_PASSES):
        return tvm.compile(mod, host.target, relax_pipeline=None)


def _without(passes: Sequence[str]) -> Any:
    """Give the surrounding context without some passes."""
    context: Any = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=context.opt_level,
        required_pass=list(context.required_pass),
        disabled_pass=[*context.disabled_pass, *passes],
        instruments=list(context.instruments),
        config=dict(context.config),
    )


def model_hash(mod: tvm.IRModule) -> str:
    """Give the sha256 of a canonical module: what it computes, its weights' names and their bytes."""
    digest = hashlib.sha256(mod.script().encode())
    for name, value in weights_of(mod).items():
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _config(request: Config | str) -> Config:
    if isinstance(request, Config):
        return request
    try:
        return Config(scheme=request)
    except ValueError as error:
        raise UserError(str(error)) from error


def _by_rules(
    config: Config,
    network: Network,
    described: Hardware,
    digest: str,
    statistics: Statistics | None,
    weights: Mapping[str, np.ndarray],
) -> Plan:
    """Give every layer its rule's scheme, or the config's, or as much of it as it can have, with the reason.

    Raises UserError for a rule that gets no layer, and where one that names a single layer asks of it what it
    cannot have.
    """
    rules = assign(config.rules, network)
    layers: dict[str, LayerPlan] = {}
    for layer in network.layers:
        rule = rules.get(layer.name)
        if rule is None:
            layers[layer.name] = _uniform(layer, config.scheme, described, weights)
            continue
        found = _nearest(layer, rule.scheme, described)
        if rule.names_one and found.scheme != rule.scheme:
            raise UserError(f"the rule for {rule} asks for {rule.scheme}, but {found.reason}: change it")
        layers[layer.name] = replace(found, reason="; ".join(filter(None, (f"rule {rule}", found.reason))))
    return Plan(
        digest,
        described.name,
        layers,
        statistics.digest() if statistics else None,
        config.recipe,
    )


def _uniform(layer: Layer, request: str, described: Hardware, weights: Mapping[str, np.ndarray]) -> LayerPlan:
    """Give a layer the scheme that is asked for all of them; a rule for ranks becomes numbers."""
    scheme, rule = parse_request(request)
    if rule is None:
        return _nearest(layer, scheme, described)
    reason = why_no_chain(layer, LowRank(1))
    found = reason or choose_factor(layer, weights[layer.name].astype(np.float32), rule)
    if isinstance(found, str):
        planned = _nearest(layer, scheme, described)
        return replace(planned, reason="; ".join(filter(None, (f"no {rule}: {found}", planned.reason))))
    return _nearest(layer, replace(scheme, factor=found), described)


def _as_imported(
    mod: tvm.IRModule, config: Config, network: Network, described: Hardware, digest: str
) -> Plan:
    """Keep the integers that a model came with, and leave what it has in float as it is."""
    if config.scheme != "int8" or config.rules:
        asked = config.scheme if config.scheme != "int8" else "rules"
        raise UserError(
            f"the model came quantized, its layers keep the integers that they have: give the scheme int8 "
            f"instead of {asked}, or the float model"
        )
    floats = why_float(mod)
    layers = {}
    for layer in network.layers:
        reason = floats.get(layer.name) or why_not(layer, INT8, described)
        if layer.weight_bearing:
            layers[layer.name] = (
                LayerPlan(FP32, reason=reason) if reason else LayerPlan(INT8, reason=AS_IMPORTED)
            )
    return Plan(digest, described.name, layers, None, replace(config.recipe, bias_correction=False))


def _nearest(layer: Layer, scheme: Scheme, described: Hardware) -> LayerPlan:
    """Give the first scheme for which the target has a kernel, of those that ask for ever less.

    The rank is dropped, the sparsity, the scales of groups, the dynamic range, other inputs than bytes, the
    format (for int8), then the integers of the input, and at last all of it.
    """
    without_rank = replace(scheme, factor=None)
    without_sparsity = replace(without_rank, sparsity=None)
    ungrouped = replace(without_sparsity, weight=without_groups(scheme.weight) if scheme.weight else None)
    static = replace(ungrouped, dynamic=False)
    bytewise = replace(static, input=Integer(8) if scheme.input else None)
    plain = replace(bytewise, weight=Integer(8) if scheme.weight else None)
    stored = [replace(each, input=None, dynamic=False) for each in (without_sparsity, ungrouped, plain)]
    integers = (scheme, without_rank, without_sparsity, ungrouped, static, bytewise, plain)
    candidates = (*integers, *stored, FP32)
    reasons: list[str] = []
    for candidate in dict.fromkeys(candidates):
        reason = why_not(layer, candidate, described)
        if reason is None:
            return LayerPlan(candidate, reason="; ".join(reasons))
        reasons.append(f"no {candidate}: {reason}")
    raise UserError(f"{described.name} has no kernel for the layer {layer.name!r}: {reasons[-1]}")


def _current_host() -> Host:
    target = tvm.target.Target.current()
    if target is None:
        raise UserError("compile within a target, or say which CPU by hardware=...")
    return host_of_target(target)


def _name_of(names: Mapping[Any, str], var: Any) -> str:
    return names.get(var, var.name)


def _named(name: str, function: Pass) -> Any:
    """Make a TVM pass of a function, so that instruments of the surrounding context see it."""
    return tvm.transform.module_pass(lambda mod, _: function(mod), opt_level=0, name=f"tersor.{name}")
