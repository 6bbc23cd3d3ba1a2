"""tersor map: what the layers of a model take on an accelerator that a TOML file describes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tersor.cli.options import Shapes, parse_shapes
from tersor.cli.progress import progress_bar
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.frontend.shapes import split
from tersor.hardware import Hardware
from tersor.machine_map import Goal, MachineMap, map_network
from tersor.passes.extract import extract
from tersor.scheme import Scheme


def map_model(
    model: Annotated[Path, typer.Argument(help="The ONNX model.")],
    hardware: Annotated[Path, typer.Option(metavar="FILE", help="The machine, a TOML file.")],
    scheme: Annotated[
        str, typer.Option(help="The numbers of all layers: int8, int4, int8+2:4, ...")
    ] = "int8",
    goal: Annotated[Goal, typer.Option(help="What the mappings are the best for.")] = "edp",
    shape: Shapes = None,
    trees: Annotated[bool, typer.Option("--trees", help="Print each mapping as a loop tree, too.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of it here, too.")] = None,
) -> None:
    """Map each layer to an accelerator and show its cycles, utilisation and energy by level."""
    machine = Hardware.load(hardware)
    try:
        parsed = Scheme.parse(scheme)
    except ValueError as error:
        raise UserError(f"--scheme: {error}") from error
    shapes = split(parse_shapes(shape))
    if len(shapes) > 1:
        raise UserError("map takes a model in one shape: give one --shape for each input")
    with progress_bar() as show:
        show("importing", 0, None)
        network = extract(import_model(model, shapes[0]))
        found = map_network(network, machine, parsed, goal, show)
    if json is not None:
        found.save(json)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(_table(model.stem, found, machine))
    for name, reason in found.refused.items():
        console.print(f"not mapped: {name}: {reason}", markup=False, highlight=False)
    if trees:
        for layer in found.layers:
            console.print(f"{layer.name}\n{layer.tree}", markup=False, highlight=False)


def _table(title: str, found: MachineMap, hardware: Hardware) -> Table:
    milliseconds = 1e3 * found.cycles / hardware.clock
    what = f"{title}, {found.scheme} on {found.hardware} for {found.goal}"
    table = Table(
        title=f"{what}: {milliseconds:.3g} ms; energy in uJ", title_justify="left", show_footer=True
    )
    table.add_column("layer", "total", overflow="fold")
    table.add_column("cycles", f"{found.cycles:,.0f}", justify="right")
    table.add_column("used", justify="right")
    table.add_column("energy", f"{found.energy / 1e6:.3g}", justify="right")
    levels = ["compute", *(memory.name for memory in hardware.memories)]
    for level in levels:
        total = sum(layer.energy_by[level] for layer in found.layers)
        table.add_column(level, f"{total / 1e6:.3g}", justify="right")
    table.add_column("gap", justify="right")
    for layer in found.layers:
        table.add_row(
            layer.name,
            f"{layer.cycles:,.0f}",
            f"{100 * layer.utilisation:.0f} %",
            f"{layer.energy / 1e6:.3g}",
            *(f"{layer.energy_by[level] / 1e6:.3g}" for level in levels),
            "exact" if layer.exact else "" if layer.gap is None else f"{100 * layer.gap:.1f} %",
        )
    return table
