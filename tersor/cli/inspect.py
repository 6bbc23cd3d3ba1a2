"""tersor inspect: the layers of a model, the report of a compressed one, or where the two differ and why."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tersor.cli.folder import open_model, open_plan, read_report
from tersor.cli.options import (
    Crop,
    Layout,
    Mean,
    Resize,
    Shapes,
    Std,
    parse_preprocessing,
    parse_shapes,
)
from tersor.cli.progress import progress_bar
from tersor.comparison import compare as run_both
from tersor.data import load_samples
from tersor.diagnosis import Diagnosis, Errors
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.frontend.shapes import split
from tersor.layer import Layer
from tersor.network import Network
from tersor.passes.extract import extract
from tersor.preprocessing import Preprocessing


def inspect(
    source: Annotated[
        Path, typer.Argument(metavar="MODEL|DIR", help="An ONNX model, or what `tersor compress` wrote.")
    ],
    shape: Shapes = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="What `tersor compress` made of MODEL: show where it differs, and why."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NPZ|DIR", help="Samples to compare on, as for `tersor compress`.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many samples to compare on.")] = 8,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = "NCHW",
) -> None:
    """Show a model's layers, a compressed one's report, or by --compare the first layer that goes wrong."""
    console = Console(width=None if Console().is_terminal else 120)
    if compare is not None:
        if data is None:
            raise UserError("--compare runs both networks: give samples by --data")
        preprocessing = parse_preprocessing(resize, crop, mean, std, layout)
        console.print(_comparison(_compared(source, compare, data, samples, preprocessing)))
        return
    if data is not None:
        raise UserError("--data is for comparing: name by --compare what `tersor compress` made of the model")
    if source.is_dir():
        console.print(read_report(source))
        return
    with progress_bar() as show:
        show("importing", 0, None)
        network = extract(import_model(source, _one_shape(shape)))
    console.print(_table(source.stem, network))


def _one_shape(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    shapes = split(parse_shapes(texts))
    if len(shapes) > 1:
        raise UserError("inspect shows a model in one shape: give one --shape for each input")
    return shapes[0]


def _compared(source: Path, folder: Path, data: str, count: int, preprocessing: Preprocessing) -> Diagnosis:
    """Compress again in memory, as the folder's plan says, with every tensor to be seen."""
    report = read_report(folder)
    plan, statistics = open_plan(folder)
    with progress_bar() as show:
        show("importing", 0, None)
        model = open_model(source, folder, report)
        show("comparing", 0, None)
        return run_both(model, plan, statistics, load_samples(data, model.buckets, preprocessing, count))


def _comparison(diagnosis: Diagnosis) -> RenderableType:
    table = Table()
    table.add_column("tensor", overflow="fold")
    for name in ("SNR dB", "max error", "saturated"):
        table.add_column(name, justify="right")
    for errors in diagnosis.errors:
        table.add_row(errors.tensor.name, *_figures(errors))
    if diagnosis.cause is None or diagnosis.layer is None:
        named = diagnosis.cause
        return Group(table, Text(f"{named}: {diagnosis.reason}" if named else diagnosis.reason))
    jump = f"the error jumps at {diagnosis.layer}, likely cause {diagnosis.cause}: {diagnosis.reason}"
    return Group(table, Text(jump))


def _figures(errors: Errors) -> tuple[str, str, str]:
    """Give SNR, largest error as a share of the largest value, and share of values that saturate."""
    snr = "" if errors.snr is None else f"{errors.snr:.1f}"
    largest = f"{100 * errors.largest_error / errors.largest:.2g} %" if errors.largest else ""
    return snr, largest, "" if errors.saturated is None else f"{100 * errors.saturated:.2g} %"


def _table(title: str, network: Network) -> Table:
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("layer", "total", overflow="fold")
    for name in ("operator", "output", "kernel"):
        table.add_column(name)
    table.add_column("MACs", f"{network.macs:,}", justify="right")
    table.add_column("weights", f"{network.weight_count:,}", justify="right")
    for layer in network.layers:
        weights = f"{layer.weight_count:,}" if layer.weight_bearing else ""
        table.add_row(layer.name, *_described(layer), f"{layer.macs:,}", weights)
    return table


def _described(layer: Layer) -> tuple[str, str, str]:
    if layer.operator == "matmul":
        batch = f"{layer.G}x" if layer.G > 1 else ""
        return "matmul", f"{batch}{layer.N}x{layer.K}", f"{layer.C}x{layer.K}"
    output = f"{layer.N}x{layer.G * layer.K}x{layer.P}x{layer.Q}"
    kind = "depthwise conv2d" if layer.is_depthwise else "conv2d"
    return kind, output, f"{layer.R}x{layer.S}" + (f" /{layer.stride[0]}" if layer.stride[0] > 1 else "")
