"""tersor bench: how long a compressed model takes, beside its float build."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tersor.cli.folder import open_model, open_runner, read_report
from tersor.cli.progress import progress_bar
from tersor.measure import latencies
from tersor.report import faster


def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `tersor compress` wrote.")],
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="The ONNX model, to time its fp32 build in turn.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to run on (default: all cores).")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each; the median counts.")] = 50,
) -> None:
    """Measure the latency of a compressed model on random inputs."""
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # read when the first run starts the threads
    report = read_report(folder)
    runners = {"compressed": open_runner(folder, report)}
    buckets = report.buckets.shapes
    with progress_bar() as show:
        if model is not None:
            show("compiling fp32", 0, None)
            runners = {"fp32": open_model(model, folder, report, threads).float_runner} | runners
        medians = {}
        for bucket in buckets:
            show(f"measuring {bucket.entry}", 0, None)
            medians[bucket] = latencies(list(runners.values()), bucket.draw(), repeats)
    table = Table("", "median ms", "", title=f"{report.model} on {report.hardware}", title_justify="left")
    for bucket, times in medians.items():
        shapes = " " + ", ".join("x".join(map(str, spec.shape)) for spec in bucket.inputs)
        for name, median in zip(runners, times, strict=True):
            speed = faster(times[0], median) if name != "fp32" and model is not None else ""
            table.add_row(name + (shapes if len(buckets) > 1 else ""), f"{median:.3f}", speed)
    Console().print(table)
