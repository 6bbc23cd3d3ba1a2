"""tersor sensitivity: what each scheme of each layer does to a network's output."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tersor.cli.compress import host_hardware
from tersor.cli.options import (
    Crop,
    Data,
    Layout,
    Mean,
    Resize,
    Shapes,
    Std,
    parse_preprocessing,
    parse_shapes,
)
from tersor.cli.progress import progress_bar
from tersor.compiler import load_model
from tersor.data import load_samples
from tersor.error import UserError
from tersor.recipe import Calibration, Recipe, Rounding
from tersor.replace import check_writable
from tersor.scheme import Scheme
from tersor.sensitivity.heat_map import heat_map
from tersor.sensitivity.sensitivity import SCHEMES, Cell, Sensitivity
from tersor.sensitivity.sensitivity import sensitivity as measure

MAPS = ("sensitivity.png", "sensitivity.svg")


def sensitivity(
    model: Annotated[Path, typer.Argument(help="The ONNX model.")],
    data: Data,
    schemes: Annotated[
        str, typer.Option(metavar="SCHEME,...", help="The schemes to try on each layer.")
    ] = ",".join(SCHEMES),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where sensitivity.json, .png and .svg go; a run that was killed goes on there.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many samples to measure on.")] = 8,
    calibration_samples: Annotated[int, typer.Option(min=1, help="How many samples calibrate.")] = 32,
    calibration: Annotated[Calibration, typer.Option(help="How activation ranges are chosen.")] = "mse",
    rounding: Annotated[Rounding, typer.Option(help="How weights are rounded: nearest or mse.")] = "nearest",
    shape: Shapes = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to share the work (default: all).")] = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = "NCHW",
) -> None:
    """Compress one layer at a time and measure what arrives at the network's output."""
    chosen = _schemes(schemes)
    if rounding not in ("nearest", "mse"):
        raise UserError(f"--rounding {rounding} needs all of a compression: give nearest or mse")
    recipe = Recipe(calibration, rounding=rounding)
    preprocessing = parse_preprocessing(resize, crop, mean, std, layout)
    shapes = parse_shapes(shape)
    if out is not None:
        check_writable(out)
    with progress_bar() as show:
        show("importing", 0, None)
        imported = load_model(model, shapes, None, host_hardware(None, cores))
        calibrating = load_samples(data, imported.buckets, preprocessing, calibration_samples)
        measured = list(load_samples(data, imported.buckets, preprocessing, samples))
        journal = None if out is None else out / "sensitivity.sqlite"
        found = measure(imported, calibrating, measured, chosen, recipe, journal, show)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(_table(found))
    for said in _correlations(found):
        console.print(said, markup=False, highlight=False)
    if out is None:
        return
    found.save(out / "sensitivity.json")
    try:
        heat_map(found, [out / name for name in MAPS])
    except UserError as error:
        console.print(f"no heat map: {error}", markup=False, highlight=False)
    console.print(f"written to {out}", markup=False, highlight=False)


def _schemes(text: str) -> list[Scheme]:
    try:
        return list(dict.fromkeys(Scheme.parse(part) for part in text.split(",")))
    except ValueError as error:
        raise UserError(f"--schemes: {error}") from error


def _table(found: Sensitivity) -> Table:
    title = f"{found.model}: output SNR in dB on {found.samples} samples, one layer compressed (estimate)"
    table = Table("layer", title=title, title_justify="left")
    table.columns[0].overflow = "fold"
    for scheme in found.schemes:
        table.add_column(str(scheme), justify="right")
    cells = {(cell.layer, cell.scheme): cell for cell in found.cells}
    for layer in found.layers:
        table.add_row(layer, *(_figures(cells[layer, scheme]) for scheme in found.schemes))
    return table


def _figures(cell: Cell) -> str:
    if cell.snr_db is None:
        return ""
    estimate = "" if cell.proxy_db is None else f" ({cell.proxy_db:.1f})"
    return f"{cell.snr_db:.1f}{estimate}"


def _correlations(found: Sensitivity) -> list[str]:
    named = (
        ("the layer's own noise, tr(dW E[xx'] dW')", found.layer_correlation),
        ("that times the layer's gain", found.proxy_correlation),
    )
    return [
        f"rank correlation (Spearman) of the measured SNR with {what}: {value:.3f}"
        for what, value in named
        if value is not None
    ]
