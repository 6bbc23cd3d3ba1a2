"""tersor inspect: the layers of a model, or the report of a compressed one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tersor.cli.folder import read_report
from tersor.cli.options import Shapes, parse_shapes
from tersor.cli.progress import progress_bar
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.frontend.shapes import split
from tersor.layer import Layer
from tersor.network import Network
from tersor.passes.extract import extract


def inspect(
    source: Annotated[
        Path, typer.Argument(metavar="MODEL|DIR", help="An ONNX model, or what `tersor compress` wrote.")
    ],
    shape: Shapes = None,
) -> None:
    """Show the layers of a model with their work and weights, or the report of a compressed one."""
    console = Console(width=None if Console().is_terminal else 120)
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
