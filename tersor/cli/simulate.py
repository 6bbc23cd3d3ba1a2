"""tersor simulate: a compressed model runs on a simulated accelerator, layer by layer and on real data."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tersor.cli.compress import request_of
from tersor.cli.options import (
    Crop,
    Data,
    Layout,
    Mean,
    Resize,
    Shapes,
    Std,
    check_file,
    parse_preprocessing,
    parse_shapes,
)
from tersor.cli.progress import progress_bar
from tersor.cli.simulate_table import notes, simulate_table
from tersor.compiler import calibrated_plan, load_model
from tersor.data import load_samples
from tersor.drawing import check_format
from tersor.error import UserError
from tersor.frontend.shapes import split
from tersor.hardware import Hardware
from tersor.run_picture import run_picture
from tersor.simulate import simulate_network
from tersor.targets.accelerator.offload.offload import is_accelerator
from tersor.targets.accelerator.simulator.simulation import check_numba


def simulate(
    model: Annotated[Path, typer.Argument(help="The ONNX model.")],
    hardware: Annotated[Path, typer.Option(metavar="FILE", help="The machine, a TOML file.")],
    data: Data,
    scheme: Annotated[
        str | None, typer.Option(help="Of all layers: int8 (default), int4, int8+2:4, int8+rank16, ...")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Schemes and mappings by layer instead: a plan of this model."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A scheme and a recipe by name: see `tersor presets`.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="JSON|TOML", help="Schemes by names or kinds, and a recipe.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many samples are run.")] = 1,
    calibration_samples: Annotated[int, typer.Option(min=1, help="How many samples calibrate.")] = 128,
    shape: Shapes = None,
    listing: Annotated[bool, typer.Option("--listing", help="Print each layer's program, too.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of it here, too.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PNG|SVG", help="Draw the timeline and the roofline (needs matplotlib)."),
    ] = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = "NCHW",
) -> None:
    """Run a model on a simulated accelerator: cycles, stalls, energy, and whether the results are right."""
    check_numba()
    machine = Hardware.load(hardware)
    if not is_accelerator(machine):
        raise UserError(f"{hardware} says of no [datapath] how its units multiply: describe an accelerator")
    request = request_of(plan, scheme, None, None, {}, preset, rules)
    preprocessing = parse_preprocessing(resize, crop, mean, std, layout)
    for path in (json, picture):
        if path is not None:
            check_file(path)
    if picture is not None:
        check_format(picture)
    shapes = parse_shapes(shape)
    if len(split(shapes)) > 1:
        raise UserError("simulate takes a model in one shape: give one --shape for each input")
    with progress_bar() as show:
        show("importing", 0, None)
        imported = load_model(model, shapes, hardware=machine)
        calibration = load_samples(data, imported.buckets, preprocessing, calibration_samples)
        chosen, statistics = calibrated_plan(imported, calibration, [], request, calibration_samples, show)
        given = load_samples(data, imported.buckets, preprocessing, samples)
        run = simulate_network(imported, machine, chosen, statistics, given, show)
    if json is not None:
        run.save(json)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(simulate_table(model.stem, run, machine))
    for note in notes(run):
        console.print(note, markup=False, highlight=False)
    if listing:
        for layer in run.layers:
            console.print(layer.listing, markup=False, highlight=False, soft_wrap=True)
    if picture is not None:
        run_picture(run, machine, model.stem, picture)
