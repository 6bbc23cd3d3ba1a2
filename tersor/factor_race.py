"""Factor race: layers whose factors are slower than their weight was get it back.

int8+rank96  ->  layers that lose by it in int8  ->  the fastest of int8+rank96, that, and int8

As in `tersor.race`: layers are timed inside the factored network and inside the other, then whole networks,
because what moves data between factors is no layer's. The result is a plan with its reasons.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tersor.compression import compress
from tersor.config import Config
from tersor.model import Build, Model
from tersor.network import Network
from tersor.passes.extract import extract
from tersor.passes.quantization.imported import came_quantized
from tersor.plan import LayerPlan, Plan
from tersor.race import fastest
from tersor.statistics import Statistics
from tersor.stopwatch import Stopwatch
from tersor.targets.cpu.host.detect import detect

# Gives a plan's statistics, and the plan with their digest.
Calibrate = Callable[[Plan], tuple[Plan, Statistics]]


@dataclass(frozen=True)
class Contender:
    """A plan that is carried out, and the statistics that it was carried out with."""

    plan: Plan
    statistics: Statistics
    build: Build


def may_race_factors(model: Model, request: Plan | Config | str, plan: Plan) -> bool:
    """Whether layers of a plan for a request may get their weights back by timing.

    Not of a plan that a person wrote, by rules or by layers, not where small constants are what was asked
    for, and not for another CPU than this one.
    """
    if not _factored(plan) or isinstance(request, Plan) or came_quantized(model.mod):
        return False
    config = request if isinstance(request, Config) else Config(scheme=request)
    return config.objective == "seconds" and not config.rules and model.host.isa == detect().isa


def race_factors(
    model: Model, factored: Contender, calibrate: Calibrate, stopwatch: Stopwatch
) -> tuple[Contender, str]:
    """Give the fastest of `factored`, it with some layers' weights back, and it with all, and their times.

    Of what is equally fast the first of these.
    """
    names = _factored(factored.plan)
    whole = _built(model, _without_factors(factored.plan, dict.fromkeys(names, "")), calibrate)
    chains, weights = stopwatch.layers([factored.build, whole.build])
    slower = slower_chains(extract(model.mod), factored.plan, chains, weights)
    contenders = {"with all factors": factored}
    if slower and len(slower) < len(names):
        amended = _without_factors(factored.plan, slower)
        contenders[f"with {len(names) - len(slower)} of {len(names)} layers factored"] = _built(
            model, amended, calibrate
        )
    contenders["without factors"] = whole
    rounds = stopwatch.networks([each.build.runner for each in contenders.values()])
    times = dict(zip(contenders, rounds, strict=True))
    said = ", ".join(f"{np.median(each) * 1e3:.3f} ms {name}" for name, each in times.items())
    won = fastest(times)
    said = f"the network took {said}: it is emitted {won}"
    if won != "without factors":
        return contenders[won], said
    reasons = {name: slower.get(name, said) for name in names}
    return replace(whole, plan=_reasoned(whole.plan, factored.plan, reasons)), said


def slower_chains(
    network: Network, plan: Plan, chains: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, str]:
    """Name the layers whose factors took longer than their weight, each with the times as the reason.

    `chains` and `weights` are the seconds of layers by name, within the factored network and the other.
    """
    found = {}
    for name in _factored(plan):
        scheme = plan.layers[name].scheme
        assert scheme.factor
        parts = [part.name for part in network[name].factored(scheme.factor)]
        if name not in weights or not all(part in chains for part in parts):
            continue
        took = sum(chains[part] for part in parts)
        if took >= weights[name]:
            before = replace(scheme, factor=None)
            found[name] = f"{scheme} took {took * 1e6:.1f} us, {before} {weights[name] * 1e6:.1f} us"
    return found


def _factored(plan: Plan) -> list[str]:
    return [name for name, layer in plan.layers.items() if layer.scheme.factor]


def _without_factors(plan: Plan, reasons: Mapping[str, str]) -> Plan:
    layers = dict(plan.layers)
    for name in reasons:
        layers[name] = LayerPlan(replace(layers[name].scheme, factor=None), reason=layers[name].reason)
    return _reasoned(replace(plan, layers=layers), plan, reasons)


def _reasoned(plan: Plan, before: Plan, reasons: Mapping[str, str]) -> Plan:
    """Give the plan with reasons behind those that its layers had before."""
    layers = {
        name: replace(layer, reason="; ".join(filter(None, (before.layers[name].reason, reasons[name]))))
        if name in reasons
        else layer
        for name, layer in plan.layers.items()
    }
    return replace(plan, layers=layers)


def _built(model: Model, plan: Plan, calibrate: Calibrate) -> Contender:
    plan, statistics = calibrate(plan)
    plan = replace(plan, statistics=statistics.digest())
    mods = [compress(mod, plan, statistics) for mod in model.mods]
    return Contender(plan, statistics, model.compiled(mods, plan.mappings))
