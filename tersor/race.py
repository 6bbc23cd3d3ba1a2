"""Race: what is emitted is never slower than the float network that came in.

    int8  ->  layers that lose by it in fp32  ->  the fastest of int8, that, and fp32

Layers are timed in their networks, in integers and in float. Those that lose stay float if that pays for the
conversions around them, and then whole networks are timed: they decide. The result is an ordinary plan with
its reasons, so that carrying it out again needs no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tersor.compression import compress
from tersor.config import Config
from tersor.model import Build, Model
from tersor.network import Network
from tersor.passes.extract import extract
from tersor.passes.quantization.imported import came_quantized
from tersor.plan import LayerPlan, Plan
from tersor.rank_rule import parse_request
from tersor.scheduler.precision import Times, better_in_float
from tersor.scheme import FP32, W8A32
from tersor.statistics import Statistics
from tersor.stopwatch import Seconds, Stopwatch
from tersor.targets.cpu.host.cost import conversion_seconds
from tersor.targets.cpu.host.detect import detect
from tersor.weight_format import Integer

# A shorter time only counts if it is shorter by this share: less is noise.
MARGIN = 0.02  # of a network
LAYER_MARGIN = 0.05


@dataclass(frozen=True)
class Raced:
    """The plan and the build that won, and the sentence that says by what times."""

    plan: Plan
    build: Build
    said: str


def may_race(model: Model, request: Plan | Config | str) -> bool:
    """Whether a plan for a request may be changed by timing.

    Not one that a person wrote, by rules or by layers, nor one that another tool's model came with, not where
    smaller constants are what was asked for (fewer bits, sparsity, low rank, the objective `size`), and not
    for another CPU than this one.
    """
    if isinstance(request, Plan) or came_quantized(model.mod) or model.host.isa != detect().isa:
        return False
    config = request if isinstance(request, Config) else Config(scheme=request)
    if config.rules:
        return False
    if config.scheme == "auto":
        return config.objective == "seconds"
    scheme, ranks = parse_request(config.scheme)
    return scheme.weight == Integer(8) and not (scheme.factor or ranks) and not scheme.sparsity


def race(model: Model, plan: Plan, statistics: Statistics, build: Build, stopwatch: Stopwatch) -> Raced:
    """Give the fastest of `build`, which carries out `plan`, of it with some layers in float, and of fp32.

    Of what is equally fast the first of these.
    """
    if not any(layer.scheme.weight for layer in plan.layers.values()):
        return Raced(plan, build, "")
    name = _name_of(plan)
    runners = {name: (plan, build)}
    amended = amend(model, plan, build, *stopwatch.layers([build, model.float_build]))
    if changed := sum(amended.layers[each] != plan.layers[each] for each in plan.layers):
        mods = [compress(mod, amended, statistics) for mod in model.mods]
        what = f"{name} but for {changed} layer{'s' if changed > 1 else ''}"
        runners[what] = amended, model.compiled(mods, amended.mappings)
    runners["fp32"] = all_float(plan), model.float_build
    rounds = stopwatch.networks([each.runner for _, each in runners.values()])
    return _decided(runners, dict(zip(runners, rounds, strict=True)))


def _decided(runners: Mapping[str, tuple[Plan, Build]], rounds: Mapping[str, Seconds]) -> Raced:
    times = ", ".join(f"{np.median(each) * 1e3:.3f} ms in {name}" for name, each in rounds.items())
    said = f"the network took {times}"
    won = fastest(rounds)
    plan, build = runners[won]
    if won == "fp32":
        plan = all_float(plan, said)
    return Raced(plan, build, f"{said}: it is emitted in {won}")


def fastest(rounds: Mapping[str, Seconds]) -> str:
    """Name the fastest by its seconds in each round, [rounds].

    A later one has to be faster than an earlier one by more than noise, both in the median of all rounds and
    by the medians: on a busy machine one of them alone is easily wrong.
    """
    won, *others = rounds
    for name in others:
        in_turn = np.median(rounds[name] / rounds[won])
        by_itself = np.median(rounds[name]) / np.median(rounds[won])
        if max(in_turn, by_itself) < 1 - MARGIN:
            won = name
    return won


def all_float(plan: Plan, reason: str = "") -> Plan:
    """Give the plan with every layer in fp32, for the reason."""
    return replace(plan, layers={name: LayerPlan(FP32, reason=reason) for name in plan.layers})


def amend(
    model: Model, plan: Plan, build: Build, integer: Mapping[str, float], floating: Mapping[str, float]
) -> Plan:
    """Give the plan with the layers in fp32 that lose by their integers, each with the times as its reason.

    `integer` and `floating` are the seconds of layers within `build` and within the float build. It stays
    as it is if too little would be gained to be more than noise.
    """
    raced = {
        name
        for name, layer in plan.layers.items()
        if layer.scheme.weight and name in integer and name in floating
    }
    own, between = _conversions(extract(model.mod), build, raced)
    times = {
        name: Times(integer[name] + own.get(name, 0.0), (1 + LAYER_MARGIN) * floating[name]) for name in raced
    }
    floats = better_in_float({name: times[name] for name in plan.layers if name in raced}, between)
    cut = sum(s for (one, other), s in between.items() if (one in floats) != (other in floats))
    gained = sum(times[name].integer - times[name].floating for name in floats) - cut
    if gained < MARGIN * sum(integer.values()):
        return plan
    layers = dict(plan.layers)
    for name in floats:
        before = layers[name]
        rounding = f" and rounding its input about {own[name] * 1e6:.1f} us" if name in own else ""
        took = f"{before.scheme} took {integer[name] * 1e6:.1f} us{rounding}"
        said = f"{took}, fp32 {floating[name] * 1e6:.1f} us"
        layers[name] = LayerPlan(FP32, reason="; ".join(filter(None, (before.reason, said))))
    return replace(plan, layers=layers)


def _conversions(
    network: Network, build: Build, raced: set[str]
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Give the seconds of conversions: those that a layer needs in integers, and those between two layers.

    They are nominal: whole networks have the last word. A tensor that comes as floats is rounded for a layer
    in integers. One that comes as codes changes only
    between layers of two formats.
    """
    calls = build.lowered[-1].calls
    reads = {call.layer for call in calls if call.reads != "float32"}
    gives = {call.layer for call in calls if call.gives != "float32"}
    own: dict[str, float] = {}
    between: dict[tuple[str, str], float] = {}
    for edge in network.edges:
        seconds = conversion_seconds(prod(edge.shape))
        if edge.consumer in raced & reads:
            if edge.producer in raced & gives:
                pair = edge.producer, edge.consumer
                between[pair] = between.get(pair, 0.0) + seconds
            else:
                own[edge.consumer] = own.get(edge.consumer, 0.0) + seconds
    return own, between


def _name_of(plan: Plan) -> str:
    """Name a plan by the one scheme of its layers in integers, if it is one."""
    schemes = {str(layer.scheme) for layer in plan.layers.values() if layer.scheme.weight}
    schemes -= {str(W8A32)} if len(schemes) > 1 else set()
    return schemes.pop() if len(schemes) == 1 else "mixed schemes"
