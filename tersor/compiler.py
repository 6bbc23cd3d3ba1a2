"""The compiler: from a model and data to a compressed executable, its plan and its report."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tvm

from tersor.blas import on_one_blas_thread
from tersor.channel_plan import chooses_by_data, goes_by_gradients
from tersor.compression import canonical, compress, reshape_layers
from tersor.config import Config
from tersor.document import write_json
from tersor.error import UserError
from tersor.factor_race import Contender, may_race_factors, race_factors
from tersor.frontend import Examples, from_torch, import_model, is_torch_module, verify
from tersor.frontend.shapes import Shapes, bucket_models
from tersor.hardware import Hardware
from tersor.ir.graph import Graph, shape_of
from tersor.layer_reports import constants_of, layer_reports, with_machine
from tersor.linking import export_library
from tersor.measure import Comparison, latencies
from tersor.model import Model
from tersor.needs import grams_to_reshape, grams_to_round, reshapes, saliencies_to_reshape
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract, tensor_names
from tersor.passes.fallbacks import find_fallbacks
from tersor.passes.grams import find_windows
from tersor.passes.quantization.imported import came_quantized
from tersor.plan import Plan
from tersor.planning import check_edges, config_of, plan_for
from tersor.race import may_race
from tersor.race import race as run_race
from tersor.replace import replacing
from tersor.report import Report, Totals
from tersor.runner import Runner
from tersor.saliency_observer import saliency_observer, watched
from tersor.statistics import Statistics
from tersor.stopwatch import Stopwatch
from tersor.targets.accelerator.offload.offload import is_accelerator
from tersor.targets.cpu.host.detect import detect, host_of
from tersor.targets.cpu.host.detect import hardware as describe

Array = npt.NDArray[Any]
Samples = Iterable[Mapping[str, Array]]
Progress = Callable[[str, int, int | None], None]  # what is done, how far, of how many
Amend = Callable[[tvm.IRModule, Plan], Plan]  # of the integer network that an accelerator is to get

# Samples whose every layer is compared with fp32 for the report.
INSPECTED = 8


def silent(_what: str, _done: int, _total: int | None) -> None:
    """Show no progress."""


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
            return self.write(staging)

    def write(self, directory: Path) -> Report:
        """Write the files of `save` into a directory that is there, one after the other."""
        library = directory / "model.so"
        export_library(self.executable, library, self.report.totals.bytes)
        totals = replace(self.report.totals, file_bytes=library.stat().st_size)
        report = replace(self.report, totals=totals)
        self.plan.save(directory / "plan.json")
        self.statistics.save(directory / "statistics.npz")
        write_json(directory / "report.json", report, Report)
        (directory / "report.txt").write_text(report.text(), encoding="utf-8")
        return report


def load_model(
    source: Any,
    shapes: Shapes | None = None,
    outputs: list[str] | None = None,
    hardware: Hardware | None = None,
    check: bool = True,
    example_inputs: Examples | None = None,
    batch: int | Sequence[int] | None = None,
) -> Model:
    """Import a model for a host and, with `check`, compare its float build with a reference executor.

    `source` is an ONNX model or its file, a module of `import_model`, or a torch.nn.Module with
    `example_inputs` (see `tersor.frontend.torch_import`), whose reference is PyTorch. Of an ONNX model
    `shapes` gives an input one shape, or one for each of several buckets; `batch` sets the leading dimension
    of the inputs, to one size or, in a bucket for each, to several. With an accelerator as `hardware` the
    host is the CPU at hand. Raises UserError for what does not go together.
    """
    accelerator = hardware if is_accelerator(hardware) else None
    host = detect() if hardware is None or accelerator is not None else host_of(hardware)
    if example_inputs is not None or is_torch_module(source):
        imported = from_torch(source, example_inputs, shapes or batch, outputs)
        model = Model(imported.name, imported.mod, host, tuple(imported.reference), accelerator=accelerator)
        if check:
            imported.verify(lambda _, arrays: model.float_runner(arrays))
        return model
    if isinstance(source, tvm.IRModule):
        if shapes or batch:
            raise UserError("a Relax module has its shapes: give other ones where it is imported")
        return Model("module", canonical(source), host, accelerator=accelerator)
    references, batched = bucket_models(source, shapes, outputs, batch, check)
    name = Path(source).stem if isinstance(source, str | Path) else source.graph.name or "model"
    names = tuple(value.name for value in references[-1].graph.output)
    *smaller, largest = (import_model(reference) for reference in references)
    model = Model(name, largest, host, names, tuple(smaller), batched, accelerator=accelerator)
    _check_alike(model)
    if check:
        _verify(model, references)
    return model


@on_one_blas_thread
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
    race: bool = True,
    amend: Amend | None = None,
) -> Compiled:
    """Compress a network and report on it.

    `data` yields dictionaries of input arrays by name; the first `calibration_samples` calibrate. The report
    compares with fp32 on `evaluation`, by default on the calibration samples; `labels` [samples] add
    accuracies. With `race`, where `measure` allows it and `tersor.race.may_race` holds, layers or a network
    that integers make slower on this machine stay in fp32; factors that make a layer slower are not taken
    (`tersor.factor_race`). A model for an accelerator is compared on the host, which computes the same bits,
    and nothing is timed; `amend` may have other mappings and edges of the plan when the integer network is
    known. Raises UserError for data that does not fit the model.
    """
    model = model if isinstance(model, Model) else load_model(model)
    measure = measure and model.accelerator is None
    inspected = list(islice(data, INSPECTED))
    plan, statistics = calibrated_plan(model, data, inspected, config, calibration_samples, progress)
    check_edges(plan, model.accelerator)
    progress("compiling", 0, None)
    mods = [compress(mod, plan, statistics) for mod in model.mods]
    build, raced = model.compiled(mods, model.host_mappings(plan.mappings)), ""
    if race and measure and may_race(model, config):
        progress("racing", 0, None)
        result = run_race(model, plan, statistics, build, Stopwatch.for_cores(model.host.cores))
        plan, build, raced = result.plan, result.build, result.said
    if race and measure and may_race_factors(model, config, plan):
        progress("racing", 0, None)

        def again(amended: Plan) -> tuple[Plan, Statistics]:
            return calibrated_plan(model, data, inspected, amended, calibration_samples, progress)

        stopwatch = Stopwatch.for_cores(model.host.cores)
        won, said = race_factors(model, Contender(plan, statistics, build), again, stopwatch)
        plan, statistics, build = won.plan, won.statistics, won.build
        raced = "; ".join(filter(None, (raced, said)))
    lowered, runner = build.lowered, build.runner
    progress("comparing layers", 0, None)
    layers = layer_reports(model, plan, statistics, build, inspected)
    if evaluation is None:
        evaluation = inspected if iter(data) is data else islice(data, calibration_samples)
    totals = _with_accuracy(
        constants_of(model, lowered), _compare(model, runner, evaluation, labels, progress)
    )
    if measure:
        progress("measuring", 0, None)
        reference, compressed = latencies([model.float_runner, runner], inspected[0])
        totals = replace(totals, latency_ms_fp32=reference, latency_ms=compressed)
    report = Report(model.name, describe(model.host).name, model.buckets, layers, totals)
    report = replace(report, fallbacks=find_fallbacks(model.mod), race=raced)
    if model.accelerator is not None:
        progress("mapping", 0, None)
        plan = amend(mods[-1], plan) if amend else plan
        build, parts = model.offloaded(mods, plan, model.accelerator)
        report = with_machine(report, model.accelerator.name, parts[-1])
    return Compiled(build.executable, build.runner, plan, statistics, report)


def calibrated_plan(
    model: Model,
    data: Samples,
    inspected: list[Mapping[str, Array]],
    config: Config | Plan | str,
    calibration_samples: int,
    progress: Progress,
) -> tuple[Plan, Statistics]:
    """Plan with statistics of the first samples, of which `inspected` have been read already.

    Raises UserError for samples that do not fit the model.
    """
    request = config if isinstance(config, Plan) else config_of(config)
    if calibration_samples < 1:
        raise UserError(f"calibration needs at least 1 sample, got {calibration_samples}")
    total = min(calibration_samples, len(data)) if isinstance(data, Sized) else None

    def calibrated(
        mods: Sequence[tvm.IRModule], grams: Collection[str], salient: Collection[str] = ()
    ) -> Statistics:
        found = _chained(inspected, data, calibration_samples)
        if not salient:
            return _calibrate(model, mods, grams, found, progress, total)
        observer = saliency_observer(model, salient)
        seen = _calibrate(model, mods, grams, watched(found, model, observer), progress, total)
        return replace(seen, saliencies=observer.saliencies())

    return _plan(model, request, calibrated, progress)


def _plan(
    model: Model,
    config: Config | Plan,
    calibrated: Callable[..., Statistics],
    progress: Progress,
) -> tuple[Plan, Statistics]:
    """Plan and calibrate; a plan that reshapes the network is calibrated before and again behind that.

    `calibrated` gives the statistics of a network in all shapes, with the Gram matrices of the layers it is
    told, and of the network as it came with the saliencies of others. A model that came quantized has its
    ranges and needs no statistics.
    """
    came = came_quantized(model.mod)
    is_chosen = (not came and isinstance(config, Config) and config.scheme == "auto") or config == "auto"
    statistics = Statistics({}) if came else calibrated(model.mods, ()) if is_chosen else None
    if not came and chooses_by_data(config):
        layers = [layer.name for layer in extract(model.mod).layers]
        statistics = calibrated(model.mods, layers, layers if goes_by_gradients(config) else ())
    progress("planning", 0, None)
    plan = plan_for(
        config, model.mod, model.host, statistics, lambda name: progress(f"planning {name}", 0, None)
    )
    if came:
        assert statistics is not None
        return plan, statistics
    if not reshapes(plan):
        grams = grams_to_round(plan.recipe, {name: layer.scheme for name, layer in plan.layers.items()})
        if statistics is None or grams:
            statistics = calibrated(model.mods, grams)
        is_written = isinstance(config, Plan) and not grams
        return (plan if is_written else replace(plan, statistics=statistics.digest())), statistics
    grams, salient = grams_to_reshape(plan), saliencies_to_reshape(plan)
    if statistics is None or not (
        statistics.grams.keys() >= grams and statistics.saliencies.keys() >= salient
    ):
        statistics = calibrated(model.mods, grams, salient)
    origin = statistics
    reshaped = [reshape_layers(mod, plan, origin) for mod in model.mods]
    grams = grams_to_round(plan.recipe, reshaped[-1][1])
    statistics = replace(calibrated([mod for mod, _ in reshaped], grams), origin=origin)
    return replace(plan, statistics=statistics.digest()), statistics


def _chained(first: list[Mapping[str, Array]], data: Samples, limit: int) -> Iterable[Mapping[str, Array]]:
    """Give the first samples again, then the rest of `data`, which may be readable only once."""
    yield from first[:limit]
    if limit > len(first):
        again = iter(data) is not data
        yield from islice(data, len(first) if again else 0, limit if again else limit - len(first))


def _calibrate(
    model: Model,
    mods: Sequence[tvm.IRModule],
    grams: Collection[str],
    samples: Iterable[Mapping[str, Array]],
    progress: Progress,
    total: int | None,
) -> Statistics:
    progress("calibrating", 0, total)
    return calibrate(
        model.observe(*mods),
        samples,
        lambda done: progress("calibrating", done, total),
        find_windows(mods[-1], grams) if grams else None,
    )


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
    done = 0
    for index, sample in enumerate(samples):
        reference, result = model.float_runner(sample), runner(sample)
        batch = reference[0].shape[0] if reference[0].ndim > 1 else 1
        mine = None if labels is None else np.asarray(labels)[done : done + batch]
        if mine is not None and mine.shape != (batch,):
            raise UserError(f"there are fewer labels than samples: sample {done + mine.size} has none")
        comparison.add(reference, result, mine)
        done += batch
        progress("evaluating", index + 1, total)
    return comparison


def _check_alike(model: Model) -> None:
    """Raise UserError unless all buckets have the same layers and tensors, so that one plan serves them."""
    names = list(tensor_names(model.mod).values())
    for mod in model.smaller:
        if list(tensor_names(mod).values()) != names:
            shown = ", ".join(f"{var.name} {'x'.join(map(str, shape_of(var)))}" for var in Graph(mod).inputs)
            raise UserError(
                f"the network has other operators at {shown} than at the largest shape: compile apart"
            )


def _verify(model: Model, references: Sequence[onnx.ModelProto]) -> None:
    def run(mod: tvm.IRModule, arrays: Mapping[str, Array]) -> list[Array]:
        for index, mine in enumerate(model.mods):
            if mod is mine:
                return model.float_runner.run_in(index, arrays)
        other = Model(model.name, mod, model.host)
        return other.float_runner(arrays)

    for mod, reference in zip(model.mods, references, strict=True):
        verify(mod, reference, run=run)
