"""tersor bench: how long a compressed model takes, beside its float build."""

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from tersor.cli.folder import open_runner, read_report
from tersor.cli.options import Shapes, parse_shapes
from tersor.cli.progress import progress_bar
from tersor.compiler import load_model
from tersor.error import UserError
from tersor.measure import latencies
from tersor.report import faster
from tersor.runner import Inputs
from tersor.targets.cpu.detect import detect, hardware


def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `tersor compress` wrote.")],
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="The ONNX model, to time its fp32 build in turn.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to run on (default: all cores).")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each; the median counts.")] = 50,
    shape: Shapes = None,
) -> None:
    """Measure the latency of a compressed model on random inputs."""
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # read when the first run starts the threads
    report = read_report(folder)
    runners = {"compressed": open_runner(folder, report)}
    with progress_bar() as show:
        if model is not None:
            show("compiling fp32", 0, None)
            host = hardware(detect(report.hardware.removeprefix("cpu-"), threads))
            baseline = load_model(model, parse_shapes(shape), hardware=host, check=False).float_runner
            if baseline.inputs != runners["compressed"].inputs:
                raise UserError(
                    f"the inputs of {model} are not those of {folder}: give the model it was made from"
                )
            runners = {"fp32": baseline} | runners
        show("measuring", 0, None)
        medians = latencies(list(runners.values()), _random_inputs(runners["compressed"].inputs), repeats)
    table = Table("", "median ms", "", title=f"{report.model} on {report.hardware}", title_justify="left")
    for name, median in zip(runners, medians, strict=True):
        speed = faster(medians[0], median) if name != "fp32" and model is not None else ""
        table.add_row(name, f"{median:.3f}", speed)
    Console().print(table)


def _random_inputs(inputs: Inputs) -> dict[str, np.ndarray]:
    """Draw unit normals, and zeros and ones for integers: indices and masks allow these everywhere."""
    random = np.random.default_rng(0)
    return {
        name: (
            random.normal(size=shape) if np.dtype(dtype).kind == "f" else random.integers(0, 2, shape)
        ).astype(dtype)
        for name, (shape, dtype) in inputs.items()
    }
