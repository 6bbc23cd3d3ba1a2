"""tersor tune: a plan with faster mappings of the layers, found by measuring them on this CPU."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tersor.cli.compress import host_hardware, request_of
from tersor.cli.options import (
    Batch,
    Crop,
    Layout,
    Mean,
    Resize,
    Shapes,
    Std,
    parse_batch,
    parse_preprocessing,
    parse_shapes,
)
from tersor.cli.progress import progress_bar
from tersor.compiler import load_model
from tersor.data import load_samples
from tersor.error import UserError
from tersor.replace import check_writable
from tersor.tuning.network import tune_network
from tersor.tuning.tune import Tuned
from tersor.units import parse_duration


def tune(
    model: Annotated[Path, typer.Argument(help="The ONNX model.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where plan.json goes, and the measurements, to go on from.")
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="NPZ|DIR", help="Samples to calibrate on, as for compress (default: random)."),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="How long to measure: 90s, 10min, 1h.")
    ] = "5min",
    shape: Shapes = None,
    batch: Batch = None,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", metavar="NAME", help="A tensor to be an output. Repeatable."),
    ] = None,
    calibration_samples: Annotated[int, typer.Option(min=1, help="How many samples calibrate.")] = 128,
    scheme: Annotated[
        str | None, typer.Option(help="For every layer: int8 (default), fp32, int8+2:4, ..., or auto.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Tune this plan instead: its schemes stay.")
    ] = None,
    isa: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instruction set, at most the CPU's own (default).")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to share the work (default: all).")] = None,
    seed: Annotated[int, typer.Option(help="Of the order in which mappings are tried.")] = 0,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = "NCHW",
) -> None:
    """Measure mappings of a model's layers: writes a plan for `tersor compress --plan`."""
    try:
        seconds = parse_duration(budget)
    except ValueError as error:
        raise UserError(f"--budget: {error}") from error
    request = request_of(plan, scheme, None, None, {})
    preprocessing = parse_preprocessing(resize, crop, mean, std, layout)
    shapes, batches = parse_shapes(shape), parse_batch(batch)
    host = host_hardware(isa, cores)
    check_writable(out)
    with progress_bar() as show:
        show("importing", 0, None)
        imported = load_model(model, shapes, output, host, batch=batches)
        samples = None
        if data is not None:
            samples = load_samples(data, imported.buckets, preprocessing, calibration_samples)
        found, tuned = tune_network(
            imported,
            samples,
            request,
            out,
            seconds,
            calibration_samples=calibration_samples,
            seed=seed,
            progress=show,
        )
    found.save(out / "plan.json")
    console = Console(width=None if Console().is_terminal else 120)
    console.print(_table(tuned))
    console.print(f"written to {out / 'plan.json'}", markup=False, highlight=False)


def _table(tuned: tuple[Tuned, ...]) -> Table:
    table = Table("kernel", title="mappings", title_justify="left")
    for name in ("layers", "measured", "analytic us", "fastest"):
        table.add_column(name, justify="right")
    table.add_column("mapping", overflow="fold")
    for each in tuned:
        seconds = f"{1e6 * each.seconds:.1f}" if each.measured else ""
        faster = "" if each.mapping is None else f"{1 / each.ratio:.2f}x"
        mapping = "" if each.mapping is None else str(each.mapping)
        row = (each.workload.name, str(len(each.layers)), str(each.measured), seconds, faster, mapping)
        table.add_row(*row)
    return table
