"""A compressed model's folder, as `tersor compress` wrote it, and the model that it was made from."""

from dataclasses import replace
from pathlib import Path

import onnx

from tersor.compiler import load_model
from tersor.document import read_json
from tersor.error import UserError
from tersor.frontend.batch import batched_inputs
from tersor.frontend.graph import Graph
from tersor.frontend.onnx_file import load_onnx
from tersor.frontend.shapes import Shape
from tersor.model import Model
from tersor.plan import Plan
from tersor.report import Report
from tersor.runner import Runner, use_threads
from tersor.statistics import Statistics
from tersor.targets.cpu.host.detect import Host, detect, hardware
from tersor.targets.cpu.host.guard import refusal


def read_report(folder: Path) -> Report:
    """Read a folder's report. Raises UserError if there is none."""
    if not (folder / "report.json").is_file():
        raise UserError(f"{folder} holds no report.json: give a directory that `tersor compress` wrote")
    return read_json(folder / "report.json", Report)


def open_plan(folder: Path) -> tuple[Plan, Statistics]:
    """Read a folder's plan and the statistics it was made from. Raises UserError if one is missing."""
    return Plan.load(folder / "plan.json"), Statistics.load(folder / "statistics.npz")


def open_runner(folder: Path, report: Report) -> Runner:
    """Load a folder's library. Raises UserError if it is none, or is for another CPU."""
    use_threads(_host(report).cores)
    return Runner.load(folder / "model.so", report.buckets)


def open_model(source: Path, folder: Path, report: Report, cores: int | None = None) -> Model:
    """Import the model that a folder was made from, in the folder's shapes, with its outputs.

    Raises UserError if it is no model, or has other inputs or outputs.
    """
    if source.is_dir():
        raise UserError(f"{source} is a directory: give the ONNX model that {folder} was made from")
    model = load_onnx(source)
    host = hardware(_host(report, cores))
    shapes, batch = _as_asked(model, report)
    outputs = [spec.name for spec in report.outputs]
    try:
        imported = load_model(model, shapes, outputs, host, check=False, batch=batch)
    except UserError as error:
        raise UserError(f"{source} is not the model that {folder} was made from: {error}") from error
    if imported.inputs != report.buckets.inputs:
        raise UserError(f"the inputs of {source} are not those of {folder}: give the model it was made from")
    return replace(imported, name=report.model, known=report.buckets)


def _host(report: Report, cores: int | None = None) -> Host:
    """Give the host that a library is for, which must be this one. Raises UserError."""
    isa = report.hardware.removeprefix("cpu-")
    try:
        return detect(isa, cores)
    except UserError as error:
        raise UserError(refusal(isa)) from error


def _as_asked(model: onnx.ModelProto, report: Report) -> tuple[dict[str, list[Shape]], list[int] | None]:
    """Give the shapes, and the batches if the model has another leading dimension, that make the buckets."""
    buckets = [{spec.name: spec.shape for spec in bucket.inputs} for bucket in report.buckets.shapes]
    names = batched_inputs(model)
    leading = {value.name: value.type.tensor_type.shape.dim[:1] for value in Graph.read(model).inputs}
    fixed = [name for name in names if leading[name][0].dim_value == 1]
    batches = sorted({shapes[name][0] for shapes in buckets for name in fixed if shapes.get(name)})
    if batches in ([], [1]):
        return {name: [shapes[name] for shapes in buckets] for name in buckets[0]}, None
    single = [
        {name: (1, *shape[1:]) if name in names else shape for name, shape in shapes.items()}
        for shapes in buckets
    ]
    single = [shapes for i, shapes in enumerate(single) if shapes not in single[:i]]
    return {name: [shapes[name] for shapes in single] for name in single[0]}, batches
