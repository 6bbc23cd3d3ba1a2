"""tersor run: a compressed model's outputs for samples."""

import os
import tempfile
import zipfile
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from tersor.cli.folder import open_runner, read_report
from tersor.cli.options import Crop, Data, Layout, Mean, Resize, Std, check_file, parse_preprocessing
from tersor.cli.progress import progress_bar
from tersor.data import load_samples
from tersor.error import UserError

SHOWN = 20  # outputs, and samples whose class is printed


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `tersor compress` wrote.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(metavar="NPZ", help="Where the outputs go, by name.")] = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = "NCHW",
) -> None:
    """Run a compressed model on samples: prints shapes and classes, writes the outputs."""
    if out is not None:
        check_file(out)
    report = read_report(folder)
    runner = open_runner(folder, report)
    samples = load_samples(data, runner.buckets, parse_preprocessing(resize, crop, mean, std, layout))
    batches: list[list[NDArray[Any]]] = []
    with progress_bar() as show:
        for sample in samples:
            batches.append(runner(sample))
            show("running", len(batches), len(samples))
    outputs: dict[str, NDArray[Any]] = {}
    for index, spec in enumerate(report.outputs):
        outputs |= _joined(spec.name, [batch[index] for batch in batches])
    console = Console(highlight=False, soft_wrap=True)
    for name, array in islice(outputs.items(), SHOWN):
        console.print(f"{name}: {array.dtype} {list(array.shape)}", markup=False)
    if len(outputs) > SHOWN:
        console.print(f"... and {len(outputs) - SHOWN} more")
    first = next(iter(outputs.values()))
    if first.ndim == 2 and first.shape[1] > 1:
        classes = [str(index) for index in first[:SHOWN].argmax(axis=1)]
        more = ", ..." if len(first) > SHOWN else ""
        console.print(f"classes: {', '.join(classes)}{more}")
    if out is not None:
        _write(out, outputs)
        console.print(f"written to {out}", markup=False)


def _joined(name: str, batches: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Put the outputs of all batches together; those of different lengths stay apart, under numbers."""
    if len({batch.shape[1:] for batch in batches}) > 1:
        return {f"{name}.{index}": batch for index, batch in enumerate(batches)}
    return {name: np.concatenate(batches) if batches[0].ndim else np.stack(batches)}


def _save(file: IO[bytes], arrays: dict[str, NDArray[Any]]) -> None:
    """Write as `np.savez` does, which cannot take arrays that are called `file` or `allow_pickle`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a .npz file, whole or not at all."""
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with os.fdopen(handle, "wb") as file:
                _save(file, arrays)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
