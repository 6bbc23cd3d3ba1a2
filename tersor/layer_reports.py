"""Layer reports: what was done to each layer, what it stores, and how near its result is to that of fp32."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.compression import compress, reshape_layers
from tersor.ir.graph import expose, weights_of
from tersor.measure import Power
from tersor.model import Build, Model, observable
from tersor.passes.extract import extract
from tersor.passes.pruning.channels import kept_channels
from tersor.passes.quantization.imported import as_float
from tersor.plan import Plan
from tersor.report import LayerReport, MachineShare, OnChip, Report, Stays, Totals
from tersor.scheme import FP32
from tersor.statistics import Statistics
from tersor.targets.accelerator.offload.offload import Offloaded
from tersor.targets.cpu.decoding import DecodedWeight
from tersor.targets.cpu.lowering import Lowered

Array = npt.NDArray[Any]
Samples = Iterable[Mapping[str, Array]]
Progress = Callable[[str, int, int | None], None]  # what is done, how far, of how many


def layer_reports(
    model: Model,
    plan: Plan,
    statistics: Statistics,
    build: Build,
    samples: list[Mapping[str, Array]],
) -> tuple[LayerReport, ...]:
    """Say of each layer what was done to it, with its SNR against fp32 over `samples`."""
    lowered = build.lowered
    reshaped, schemes = reshape_layers(model.mod, plan, statistics)
    snr = _layer_snr(model, plan, statistics, build, samples)
    stored, largest = _stored(lowered), lowered[-1]
    reports = []
    for layer in extract(reshaped).layers:
        origin = layer.name if layer.name in plan.layers else layer.name.rpartition(".")[0]
        planned = plan.layers.get(origin)
        unplanned = (
            "not in the plan" if layer.weight_bearing else "products of two activations run in float32"
        )
        reason = planned.reason if planned else unplanned
        decoded = largest.decoded.get(layer.name, DecodedWeight((), 0))
        mine = [each for each in stored if each[0] in decoded.stored or _belongs(each[0], layer.name)]
        read = sum(size for name, size in mine if name not in decoded.stored) + decoded.bytes
        own = "scheduled float32" if not decoded.stored else "decoded once + scheduled float32"
        kernels = [each.kernels.get(layer.name, own) for each in reversed(lowered)]
        kernel = ", ".join(dict.fromkeys(kernels))
        ran = [mapping for each in reversed(lowered) for mapping in each.mappings.ran.get(layer.name, ())]
        mapping = "; ".join(dict.fromkeys(map(str, ran)))
        named = planned.scheme if planned and origin == layer.name else schemes.get(layer.name, FP32)
        scheme, bytes = str(named), sum(size for _, size in mine)
        reports.append(
            LayerReport(layer.name, scheme, kernel, bytes, snr.get(layer.name), reason, mapping, read)
        )
    return tuple(reports)


def with_machine(report: Report, machine: str, offloaded: Offloaded) -> Report:
    """Say in a report which layers run on an accelerator, as what, and what stays on the CPU or its chip."""
    theirs = {layer.name: layer for layer in offloaded.layers}

    def told(layer: LayerReport) -> LayerReport:
        if layer.name not in theirs:
            return layer
        found = theirs[layer.name]
        return replace(layer, kernel=f"{machine}: {found.kind}", mapping=str(found.mapping or ""))

    stays = tuple(Stays(each.name, each.reason) for each in offloaded.refusals)
    kept = tuple(OnChip(each.producer, each.readers, each.size, each.saved) for each in offloaded.kept)
    placed = MachineShare(machine, offloaded.share, stays, kept)
    return replace(report, layers=tuple(map(told, report.layers)), machine=placed)


def _belongs(weight: str, layer: str) -> bool:
    """Whether a constant is the weight of a layer as its kernels read it, or comes with one of its uses."""
    return weight == layer or weight.startswith((f"{layer}|", f"{layer}'"))


def side_by_side(
    model: Model, plan: Plan, statistics: Statistics, names: Iterable[str], build: Build | None = None
) -> Callable[[Mapping[str, Array]], dict[str, tuple[Array, Array]]]:
    """Compile so that a run gives the named tensors as fp32 and as the compressed network has them.

    Of channels that the plan drops fp32's are left out, too. Kernels of `build`, which carries out the plan,
    serve again.
    """
    names, exposed = tuple(names), []
    for mod in model.mods:
        named = observable(mod)
        exposed.append(expose(mod, [named[name] for name in names]))
    lowered = model.lowered_alike([compress(mod, plan, statistics) for mod in exposed])
    rounded = model.runner(*lowered, lender=build)
    left = kept_channels(model.mod, plan.groups)

    def run(sample: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
        exact, results = model.float_tensors(sample), rounded.uncropped(sample)
        compared = {name: np.take(exact[name], kept, axis) for name, (axis, kept) in left.items()}
        return {name: ((exact | compared)[name], result) for name, result in zip(names, results, strict=True)}

    return run


def _layer_snr(
    model: Model,
    plan: Plan,
    statistics: Statistics,
    build: Build,
    samples: list[Mapping[str, Array]],
) -> dict[str, float | None]:
    """Compare every layer's result with fp32's, both inside their own network."""
    names = [name for name in observable(model.mod) if name.endswith(":out")]
    run = side_by_side(model, plan, statistics, names, build)
    powers = {name: Power() for name in names}
    for sample in samples:
        for name, (expected, got) in run(sample).items():
            powers[name].add(expected, got)
    snr = {name.removesuffix(":out"): power.snr for name, power in powers.items()}
    # Of the layers that a factorization makes it is the last that gives the layer's result.
    factored = {name: layer.scheme.factor for name, layer in plan.layers.items() if layer.scheme.factor}
    network = extract(model.mod)
    last = {network[name].factored(factor)[-1].name: snr[name] for name, factor in factored.items()}
    return {**snr, **last}


def constants_of(model: Model, lowered: Sequence[Lowered]) -> Totals:
    """Count the bytes of constants, in float32 and as stored."""
    original = sum(value.nbytes for value in weights_of(as_float(model.mod)).values())
    stored, decoded = _stored(lowered), lowered[-1].decoded.values()
    unread = {name for weight in decoded for name in weight.stored}
    read = sum(size for name, size in stored if name not in unread)
    read += sum(weight.bytes for weight in decoded)
    return Totals(original, sum(size for _, size in stored), read)


def _stored(lowered: Sequence[Lowered]) -> list[tuple[str, int]]:
    """Give name and bytes of the constants: those of the largest bucket, and what others have besides."""
    *smaller, largest = (weights_of(each.mod) for each in lowered)
    stored = [(name, value.nbytes) for name, value in largest.items()]
    known = {_content(value) for value in largest.values()}
    for weights in smaller:
        for name, value in weights.items():
            if (content := _content(value)) not in known:
                known.add(content)
                stored.append((name, value.nbytes))
    return stored


def _content(value: Array) -> tuple[str, tuple[int, ...], bytes]:
    return str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).digest()
