"""The compiler: from a model and data to a compressed executable, its plan and its report."""

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tvm

from tersor.config import Config
from tersor.document import write_json
from tersor.error import UserError
from tersor.frontend import Examples, from_torch, import_model, is_torch_module, static_model, verify
from tersor.hardware import Hardware
from tersor.ir.graph import Graph, expose, shape_of, weights_of
from tersor.linking import export_library
from tersor.lowering import build, canonical, compress, plan_for, reshape_layers
from tersor.measure import Comparison, Power, latencies
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract, tensor_names
from tersor.passes.fallbacks import find_fallbacks
from tersor.passes.quantization.imported import as_float, came_quantized
from tersor.plan import Plan
from tersor.replace import replacing
from tersor.report import LayerReport, Report, TensorSpec, Totals
from tersor.runner import Runner, use_threads
from tersor.scheme import FP32
from tersor.statistics import Statistics
from tersor.targets.cpu.detect import Host, detect, host_of
from tersor.targets.cpu.detect import hardware as describe
from tersor.targets.cpu.lowering import Lowered, lower

Array = npt.NDArray[Any]
Samples = Iterable[Mapping[str, Array]]
Progress = Callable[[str, int, int | None], None]  # what is done, how far, of how many

# Samples whose every layer is compared with fp32 for the report.
INSPECTED = 8


def silent(_what: str, _done: int, _total: int | None) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Model:
    """An imported network on a host, with its float build; what every compression starts from."""

    name: str
    mod: tvm.IRModule
    host: Host
    output_names: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of the inputs by name."""
        return {var.name: (shape_of(var), str(var.ty.dtype)) for var in Graph(self.mod).inputs}

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in the model's order; numbered where the model has no names for them."""
        outputs = Graph(self.mod).outputs
        names = self.output_names or tuple(f"output{i}" for i in range(len(outputs)))
        return tuple(
            TensorSpec(name, shape_of(var), str(var.ty.dtype))
            for name, var in zip(names, outputs, strict=True)
        )

    @cached_property
    def float_runner(self) -> Runner:
        """The uncompressed build: the baseline of speed and accuracy.

        Of a model that came quantized it computes in float what that rounds, as other tools define it.
        """
        return self.runner(self.lowered(as_float(self.mod)))

    def lowered(self, mod: tvm.IRModule) -> Lowered:
        """Lower a module to this host's kernels."""
        return lower(mod, self.host.isa, self.host.cores)

    def runner(self, lowered: Lowered) -> Runner:
        """Compile lowered kernels to something that runs."""
        use_threads(self.host.cores)
        return Runner(build(lowered, self.host), self.inputs)

    def observe(self, mod: tvm.IRModule) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """Compile a float module so that a run gives every tensor of `tensor_names` by name."""
        named = _observable(mod)
        runner = self.runner(self.lowered(expose(mod, list(named.values()))))
        return lambda arrays: dict(zip(named, runner(arrays), strict=True))


@dataclass(frozen=True)
class Compiled:
    """A compressed network: what runs, the plan it follows, the statistics it was made from, the report."""

    executable: Any
    runner: Runner
    plan: Plan
    statistics: Statistics
    report: Report

    def __call__(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Run on arrays by input name."""
        return self.runner(arrays)

    def save(self, directory: str | Path) -> Report:
        """Write model.so, plan.json, statistics.npz and the report as JSON and text, all or none of them.

        Gives the report with the library's size. Raises UserError if `directory` cannot be written.
        """
        with replacing(directory) as staging:
            library = staging / "model.so"
            export_library(self.executable, library)
            totals = replace(self.report.totals, file_bytes=library.stat().st_size)
            report = replace(self.report, totals=totals)
            self.plan.save(staging / "plan.json")
            self.statistics.save(staging / "statistics.npz")
            write_json(staging / "report.json", report, Report)
            (staging / "report.txt").write_text(report.text(), encoding="utf-8")
        return report


def load_model(
    source: Any,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    outputs: list[str] | None = None,
    hardware: Hardware | None = None,
    check: bool = True,
    example_inputs: Examples | None = None,
) -> Model:
    """Import a model for a host and, with `check`, compare its float build with a reference executor.

    `source` is an ONNX model or its file, a module of `import_model`, or a torch.nn.Module with
    `example_inputs` (see `tersor.frontend.torch_import`), whose reference is PyTorch.
    """
    host = host_of(hardware) if hardware is not None else detect()
    if example_inputs is not None or is_torch_module(source):
        imported = from_torch(source, example_inputs, shapes, outputs)
        model = Model(imported.name, imported.mod, host, tuple(imported.reference))
        if check:
            imported.verify(lambda _, arrays: model.float_runner(arrays))
        return model
    if isinstance(source, tvm.IRModule):
        return Model("module", canonical(source), host)
    name = Path(source).stem if isinstance(source, str | Path) else source.graph.name or "model"
    reference = static_model(source, shapes, outputs)
    names = tuple(value.name for value in reference.graph.output)
    model = Model(name, import_model(reference), host, names)
    if check:
        _verify(model, reference)
    return model


def compile(
    model: Model | str | Path | onnx.ModelProto | tvm.IRModule,
    data: Samples,
    config: Config | Plan | str = "int8",
    *,
    calibration_samples: int = 128,
    evaluation: Samples | None = None,
    labels: Array | None = None,
    progress: Progress = silent,
    measure: bool = True,
) -> Compiled:
    """Compress a network and report on it.

    `data` yields dictionaries of input arrays by name; the first `calibration_samples` calibrate. The report
    compares with fp32 on `evaluation`, by default on the calibration samples; `labels` [samples] add
    accuracies. Raises UserError for data that does not fit the model.
    """
    model = model if isinstance(model, Model) else load_model(model)
    if calibration_samples < 1:
        raise UserError(f"calibration needs at least 1 sample, got {calibration_samples}")
    inspected = list(islice(data, INSPECTED))
    total = min(calibration_samples, len(data)) if isinstance(data, Sized) else None

    def calibrated(mod: tvm.IRModule) -> Statistics:
        return _calibrate(model, mod, _chained(inspected, data, calibration_samples), progress, total)

    plan, statistics = _plan(model, config, calibrated, progress)
    progress("compiling", 0, None)
    lowered = model.lowered(compress(model.mod, plan, statistics))
    executable = build(lowered, model.host)
    runner = Runner(executable, model.inputs)
    progress("comparing layers", 0, None)
    layers = _layer_reports(model, plan, statistics, lowered, inspected)
    if evaluation is None:
        evaluation = inspected if iter(data) is data else islice(data, calibration_samples)
    totals = _with_accuracy(_totals(model, lowered), _compare(model, runner, evaluation, labels, progress))
    if measure:
        progress("measuring", 0, None)
        reference, compressed = latencies([model.float_runner, runner], inspected[0])
        totals = replace(totals, latency_ms_fp32=reference, latency_ms=compressed)
    inputs = tuple(TensorSpec(name, shape, dtype) for name, (shape, dtype) in model.inputs.items())
    report = Report(model.name, describe(model.host).name, inputs, model.outputs, layers, totals)
    report = replace(report, fallbacks=find_fallbacks(model.mod))
    return Compiled(executable, runner, plan, statistics, report)


def _plan(
    model: Model,
    config: Config | Plan | str,
    calibrated: Callable[[tvm.IRModule], Statistics],
    progress: Progress,
) -> tuple[Plan, Statistics]:
    """Calibrate and plan; a plan that factors layers is calibrated again, for the tensors between factors.

    A model that came quantized has its ranges and needs no statistics.
    """
    statistics = Statistics({}) if came_quantized(model.mod) else calibrated(model.mod)
    progress("planning", 0, None)
    plan = plan_for(
        config, model.mod, model.host, statistics, lambda name: progress(f"planning {name}", 0, None)
    )
    if any(layer.scheme.low_rank for layer in plan.layers.values()):
        statistics = calibrated(reshape_layers(model.mod, plan)[0])
        plan = replace(plan, statistics=statistics.digest())
    return plan, statistics


def _chained(first: list[Mapping[str, Array]], data: Samples, limit: int) -> Iterable[Mapping[str, Array]]:
    """Give the first samples again, then the rest of `data`, which may be readable only once."""
    yield from first[:limit]
    if limit > len(first):
        again = iter(data) is not data
        yield from islice(data, len(first) if again else 0, limit if again else limit - len(first))


def _calibrate(
    model: Model,
    mod: tvm.IRModule,
    samples: Iterable[Mapping[str, Array]],
    progress: Progress,
    total: int | None,
) -> Statistics:
    progress("calibrating", 0, total)
    return calibrate(model.observe(mod), samples, lambda done: progress("calibrating", done, total))


def _observable(mod: tvm.IRModule) -> dict[str, Any]:
    """Give the float tensors between the parts of a network, by name."""
    named = {name: var for var, name in tensor_names(mod).items()}
    return {name: var for name, var in named.items() if str(var.ty.dtype) == "float32"}


def _layer_reports(
    model: Model,
    plan: Plan,
    statistics: Statistics,
    lowered: Lowered,
    samples: list[Mapping[str, Array]],
) -> tuple[LayerReport, ...]:
    reshaped, schemes = reshape_layers(model.mod, plan)
    snr = _layer_snr(model, plan, statistics, samples)
    stored = weights_of(lowered.mod)
    reports = []
    for layer in extract(reshaped).layers:
        origin = layer.name if layer.name in plan.layers else layer.name.rpartition(".")[0]
        planned = plan.layers.get(origin)
        unplanned = (
            "not in the plan" if layer.weight_bearing else "products of two activations run in float32"
        )
        reason = planned.reason if planned else unplanned
        mine = [value.nbytes for name, value in stored.items() if _belongs(name, layer.name)]
        kernel = lowered.kernels.get(layer.name, "scheduled float32")
        scheme = str(schemes.get(layer.name, FP32))
        reports.append(LayerReport(layer.name, scheme, kernel, sum(mine), snr.get(layer.name), reason))
    return tuple(reports)


def _belongs(weight: str, layer: str) -> bool:
    return weight == layer or weight.startswith(
        (f"{layer}|", f"{layer}.values", f"{layer}.positions", f"{layer}'")
    )


def _layer_snr(
    model: Model,
    plan: Plan,
    statistics: Statistics,
    samples: list[Mapping[str, Array]],
) -> dict[str, float | None]:
    """Compare every layer's result with fp32's, both inside their own network."""
    named = {name: var for name, var in _observable(model.mod).items() if name.endswith(":out")}
    exposed = compress(expose(model.mod, list(named.values())), plan, statistics)
    rounded = model.runner(model.lowered(exposed))
    exact = model.runner(model.lowered(as_float(expose(model.mod, list(named.values())))))
    powers = {name: Power() for name in named}
    for sample in samples:
        for power, expected, got in zip(powers.values(), exact(sample), rounded(sample), strict=True):
            power.add(expected, got)
    snr = {name.removesuffix(":out"): power.snr for name, power in powers.items()}
    # Of two factors it is the second that gives the layer's result.
    factored = {name for name, layer in plan.layers.items() if layer.scheme.low_rank}
    factors = {f"{name}.1": value for name, value in snr.items() if name in factored}
    return {**snr, **factors}


def _totals(model: Model, lowered: Lowered) -> Totals:
    original = sum(value.nbytes for value in weights_of(as_float(model.mod)).values())
    stored = sum(value.nbytes for value in weights_of(lowered.mod).values())
    return Totals(bytes_fp32=original, bytes=stored)


def _with_accuracy(totals: Totals, comparison: Comparison) -> Totals:
    right_reference, right = comparison.accuracies
    return replace(
        totals,
        samples=comparison.rows,
        agreement=comparison.agreement,
        snr_db=comparison.snr,
        accuracy_fp32=right_reference,
        accuracy=right,
    )


def _compare(
    model: Model, runner: Runner, samples: Samples, labels: Array | None, progress: Progress
) -> Comparison:
    comparison = Comparison()
    total = len(samples) if isinstance(samples, Sized) else None
    for index, sample in enumerate(samples):
        reference, result = model.float_runner(sample), runner(sample)
        batch = reference[0].shape[0] if reference[0].ndim > 1 else 1
        mine = None if labels is None else np.asarray(labels)[index * batch : (index + 1) * batch]
        if mine is not None and mine.shape != (batch,):
            raise UserError(
                f"there are fewer labels than samples: sample {index * batch + mine.size} has none"
            )
        comparison.add(reference, result, mine)
        progress("evaluating", index + 1, total)
    return comparison


def _verify(model: Model, reference: onnx.ModelProto) -> None:
    def run(mod: tvm.IRModule, arrays: Mapping[str, Array]) -> list[Array]:
        if mod is model.mod:
            return model.float_runner(arrays)
        other = Model(model.name, mod, model.host)
        return other.float_runner(arrays)

    verify(model.mod, reference, run=run)
