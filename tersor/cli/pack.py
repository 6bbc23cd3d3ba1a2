"""tersor pack and unpack: a compressed model as one small file, and the library built from it again."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tersor.cli.compress import host_hardware
from tersor.cli.folder import open_model, open_plan, read_report
from tersor.cli.options import check_file
from tersor.cli.progress import progress_bar
from tersor.compression import compress
from tersor.planning import plan_for
from tersor.replace import check_writable
from tersor.report import Report
from tersor.shipping.container import Package, Size, load, save
from tersor.shipping.container import pack as pack_package
from tersor.shipping.shipping import build_package, save_package


def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `tersor compress` wrote.")],
    model: Annotated[Path, typer.Argument(help="The ONNX model that it was made from.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The container, as net.tersor.")],
) -> None:
    """Put a compressed model into one entropy-coded file, from which `tersor unpack` builds its library."""
    check_file(out)
    report = read_report(folder)
    plan, statistics = open_plan(folder)
    with progress_bar() as show:
        show("importing", 0, None)
        imported = open_model(model, folder, report)
        show("compressing", 0, None)
        plan = plan_for(plan, imported.mod, imported.host, statistics)
        mods = tuple(compress(mod, plan, statistics) for mod in imported.mods)
        show("coding", 0, None)
        data, size = pack_package(Package(mods, plan, report))
        save(out, data)
    console = Console(width=None if Console().is_terminal else 120)
    for said in described(size, report):
        console.print(said, highlight=False)
    console.print(f"written to {out}", markup=False, highlight=False)


def unpack(
    container: Annotated[Path, typer.Argument(metavar="FILE", help="What `tersor pack` wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the library, plan and report go.")],
    isa: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instruction set, at most the CPU's own (default).")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to share the work (default: all).")] = None,
) -> None:
    """Build the library of a container for this machine, without the model that it was made from."""
    check_writable(out)
    hardware = host_hardware(isa, cores)
    with progress_bar() as show:
        show("reading", 0, None)
        package = load(container)
        show("compiling", 0, None)
        save_package(package, build_package(package, hardware), hardware, out)
    Console().print(f"written to {out}", markup=False, highlight=False)


def described(size: Size, report: Report) -> list[str]:
    """Say what a container takes, beside the float weights and the entropy of what it codes."""
    ratio = report.totals.bytes_fp32 / size.file
    return [
        f"{size.file:,} bytes, 1/{ratio:.1f} of the fp32 weights' {report.totals.bytes_fp32:,}",
        f"arrays: {size.arrays:,} bytes coded, {size.bound:,.0f} by their entropy, {size.stored:,} as stored",
        f"network, plan and report: {size.contents:,} bytes",
    ]
