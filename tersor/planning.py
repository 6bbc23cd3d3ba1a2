"""Planning: from what a user asks for to a plan that the target can carry out to the letter, with reasons."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tvm

from tersor.channel_plan import with_groups
from tersor.config import Config
from tersor.error import UserError
from tersor.factor import LowRank, why_no_chain
from tersor.hardware import Hardware
from tersor.ir.chains import find_chains, find_gathers, find_products
from tersor.ir.graph import Graph, weights_of
from tersor.ir.recurrent import find_recurrences
from tersor.layer import Layer
from tersor.network import Network
from tersor.passes.decomposition.ranks import choose_factor
from tersor.passes.extract import extract, tensor_names
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.quantization.imported import came_quantized, imported_layers, why_float
from tersor.passes.quantization.tensors import Tensors
from tersor.plan import LayerPlan, Plan
from tersor.rank_rule import parse_request
from tersor.rule import assign
from tersor.scheduler.autotune import Limit, tune
from tersor.scheme import FP32, INT8, Scheme
from tersor.statistics import Statistics
from tersor.targets.cpu.host.cost import estimate, why_not
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.host.detect import hardware as describe
from tersor.weight_format import Integer, without_groups

AS_IMPORTED = "as imported"


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
        return _settled(plan, mod)
    config = config_of(request)
    if came_quantized(mod):
        return _as_imported(mod, config, network, described, digest)
    if config.scheme != "auto":
        plan = _settled(_by_rules(config, network, described, digest, statistics, weights_of(mod)), mod)
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


def check_edges(plan: Plan, accelerator: Hardware | None) -> None:
    """Raise UserError if a plan keeps tensors on the chip of a machine that is not there."""
    if accelerator is None and any(edge.on_chip for edge in plan.edges):
        raise UserError(
            "the plan keeps tensors on the chip of an accelerator: give it as --hardware, or remove its edges"
        )


def _check(plan: Plan, mod: tvm.IRModule, network: Network, digest: str, described: Hardware) -> None:
    """Refuse a plan that is for another model or that this target cannot carry out to the letter."""
    plan.check_model(digest)
    plan.check_layers(layer.name for layer in network.layers)
    if laid_out := [edge for edge in plan.edges if edge.layout]:
        raise UserError(
            f"the plan has a layout for {laid_out[0].producer!r} to {laid_out[0].consumer!r}, but what runs "
            "the layers chooses layouts: remove it"
        )
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
        found = nearest(layer, rule.scheme, described)
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
        return nearest(layer, scheme, described)
    reason = why_no_chain(layer, LowRank(1))
    found = reason or choose_factor(layer, weights[layer.name].astype(np.float32), rule)
    if isinstance(found, str):
        planned = nearest(layer, scheme, described)
        return replace(planned, reason="; ".join(filter(None, (f"no {rule}: {found}", planned.reason))))
    return nearest(layer, replace(scheme, factor=found), described)


def _settled(plan: Plan, mod: tvm.IRModule) -> Plan:
    """Give inputs of fewer bits as many as their tensors have, which their widest readers ask for.

    Mappings of such layers go: their tiles were of fewer bits.
    """
    tensors = Tensors(Graph(mod), {name: layer.scheme for name, layer in plan.layers.items()})
    layers = dict(plan.layers)
    for name, layer in plan.layers.items():
        scheme, width = tensors.schemes[name], tensors.asked_by.get(name)
        if scheme != layer.scheme:
            assert width is not None  # something wider has asked
            reason = f"no {layer.scheme}: its input has {width.bits} bits, for {width.reader}"
            layers[name] = LayerPlan(scheme, reason="; ".join(filter(None, (layer.reason, reason))))
    return replace(plan, layers=layers)


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


def nearest(layer: Layer, scheme: Scheme, described: Hardware) -> LayerPlan:
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


def config_of(request: Config | str) -> Config:
    """Give the config that a request stands for; a text is the scheme of every layer. Raises UserError."""
    if isinstance(request, Config):
        return request
    try:
        return Config(scheme=request)
    except ValueError as error:
        raise UserError(str(error)) from error


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


def model_hash(mod: tvm.IRModule) -> str:
    """Give the sha256 of a canonical module: what it computes, its weights' names and their bytes."""
    digest = hashlib.sha256(mod.script().encode())
    for name, value in weights_of(mod).items():
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _name_of(names: Mapping[Any, str], var: Any) -> str:
    return names.get(var, var.name)
