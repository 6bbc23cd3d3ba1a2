"""tersor map: what the layers of a model take on an accelerator that a TOML file describes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tersor.cli.map_table import map_table, notes
from tersor.cli.options import Shapes, parse_shapes
from tersor.cli.progress import progress_bar
from tersor.drawing import check_format
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.frontend.shapes import split
from tersor.hardware import Hardware
from tersor.machine_map import map_network
from tersor.machine_picture import machine_picture
from tersor.mapped_layer import Goal
from tersor.passes.extract import extract
from tersor.plan import Plan
from tersor.planned_layers import PlannedLayers
from tersor.replace import check_writable
from tersor.scheme import Scheme
from tersor.statistics import Statistics


def map_model(
    model: Annotated[Path, typer.Argument(help="The ONNX model.")],
    hardware: Annotated[Path, typer.Option(metavar="FILE", help="The machine, a TOML file.")],
    scheme: Annotated[
        str | None, typer.Option(help="Of all layers: int8 (default), int4, int8+2:4, int8+rank16, ...")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="Schemes by layer instead: a plan of `tersor compress`. Statistics beside it say what is 0.",
        ),
    ] = None,
    goal: Annotated[Goal, typer.Option(help="What the mappings are the best for.")] = "edp",
    shape: Shapes = None,
    trees: Annotated[bool, typer.Option("--trees", help="Print each mapping as a loop tree, too.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of it here, too.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PNG|SVG", help="Draw the roofline and the energy by level (needs matplotlib)."),
    ] = None,
) -> None:
    """Map each layer to an accelerator and show its cycles, what bounds it, and its energy by level."""
    machine = Hardware.load(hardware)
    if plan is not None and scheme is not None:
        raise UserError("--plan has the schemes of all layers: leave out --scheme")
    parsed = _scheme(scheme or "int8")
    read, statistics = (None, None) if plan is None else _plan(plan)
    for path in (json, picture):
        if path is not None:
            _check_file(path)
    if picture is not None:
        check_format(picture)
    shapes = split(parse_shapes(shape))
    if len(shapes) > 1:
        raise UserError("map takes a model in one shape: give one --shape for each input")
    with progress_bar() as show:
        show("importing", 0, None)
        mod = import_model(model, shapes[0])
        if read is None:
            found = map_network(extract(mod), machine, parsed, goal, show)
        else:
            planned = PlannedLayers.of(mod, read, statistics)
            found = map_network(planned.network, machine, planned.schemes, goal, show, planned.densities)
    if not found.layers:
        raise UserError(_why_nothing(model.name, machine.name, found.refused))
    if json is not None:
        found.save(json)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(map_table(model.stem, found, machine))
    if plan is not None:
        console.print(_zeros(plan, statistics), markup=False, highlight=False)
    for note in notes(found):
        console.print(note, markup=False, highlight=False)
    if trees:
        for layer in found.layers:
            console.print(f"{layer.name}\n{layer.tree}", markup=False, highlight=False)
    if picture is not None:
        machine_picture(found, machine, model.stem, picture)


def _scheme(text: str) -> Scheme:
    try:
        return Scheme.parse(text)
    except ValueError as error:
        raise UserError(f"--scheme: {error}") from error


def _plan(path: Path) -> tuple[Plan, Statistics | None]:
    """Read a plan, and the statistics that it was made from if they are beside it. Raises UserError."""
    plan, beside = Plan.load(path), path.with_name("statistics.npz")
    statistics = Statistics.load(beside) if beside.exists() else None
    return plan, statistics if statistics and statistics.digest() == plan.statistics else None


def _zeros(plan: Path, statistics: Statistics | None) -> str:
    if statistics is None:
        return f"activations are taken to have no zeros: the statistics of {plan.name} are not beside it"
    return f"zeros of activations are as {plan.with_name('statistics.npz')} has them"


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a directory, give a file")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: the directory {path.parent} does not exist")
    check_writable(path.parent)


def _why_nothing(model: str, machine: str, refused: dict[str, str]) -> str:
    if not refused:
        return f"{model} has no layers to map"
    return f"{machine} runs no layer of {model}: {next(iter(refused.values()))}; give other schemes"
