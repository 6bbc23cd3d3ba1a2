"""tersor export: a compressed model as a file for other tools."""

from pathlib import Path
from typing import Annotated

import onnx
import typer
from rich.console import Console

from tersor.cli.folder import open_model, open_plan, read_report
from tersor.cli.options import check_file
from tersor.cli.progress import progress_bar
from tersor.compression import round_layers
from tersor.error import UserError
from tersor.export import export_onnx
from tersor.planning import plan_for


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `tersor compress` wrote.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model that it was made from.")],
    file: Annotated[
        Path, typer.Option("--onnx", metavar="FILE", help="Where the quantized ONNX model goes.")
    ],
) -> None:
    """Write a compressed model as ONNX in QDQ form: int8 weights, uint8 activations, int32 biases.

    Of several shapes it is the largest.
    """
    check_file(file)
    report = read_report(folder)
    plan, statistics = open_plan(folder)
    with progress_bar() as show:
        show("importing", 0, None)
        imported = open_model(model, folder, report)
        plan_for(plan, imported.mod, imported.host, statistics)  # that it is for this model
        rounded, *_ = round_layers(imported.mod, plan, statistics)
        exported = export_onnx(rounded, [spec.name for spec in imported.outputs], imported.name)
    _write(file, exported)
    Console(highlight=False, soft_wrap=True).print(f"written to {file}", markup=False)


def _write(path: Path, model: onnx.ModelProto) -> None:
    try:
        onnx.save(model, path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}") from error
