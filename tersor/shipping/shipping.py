"""Shipping: the library of a container, built on the machine where it will run."""

from dataclasses import replace
from pathlib import Path

from tersor.document import write_json
from tersor.hardware import Hardware
from tersor.linking import export_library
from tersor.model import Build, Model
from tersor.replace import replacing
from tersor.report import Report
from tersor.shipping.container import Package
from tersor.targets.cpu.host.detect import host_of


def build_package(package: Package, hardware: Hardware) -> Build:
    """Compile the networks of a package for a CPU; its numbers stay what they are on any.

    The plan's mappings are those of the CPU that it was made for, and left out on another.
    """
    report = package.report
    *smaller, largest = package.mods
    names = tuple(spec.name for spec in report.outputs)
    host = host_of(hardware)
    model = Model(report.model, largest, host, names, tuple(smaller), known=report.buckets)
    mappings = package.plan.mappings if report.hardware == hardware.name else None
    return model.compiled(package.mods, mappings)


def save_package(package: Package, build: Build, hardware: Hardware, directory: Path) -> Report:
    """Write model.so, plan.json and the report, all or none of them, and give the report.

    What was measured elsewhere is left out of it. Raises UserError if `directory` cannot be written.
    """
    kernels = {name: kernel for each in build.lowered for name, kernel in each.kernels.items()}
    layers = tuple(
        replace(layer, kernel=kernels.get(layer.name, "scheduled float32")) for layer in package.report.layers
    )
    with replacing(directory) as staging:
        library = staging / "model.so"
        export_library(build.executable, library)
        totals = replace(
            package.report.totals,
            file_bytes=library.stat().st_size,
            latency_ms=None,
            latency_ms_fp32=None,
        )
        report = replace(package.report, hardware=hardware.name, layers=layers, totals=totals, race="")
        replace(package.plan, hardware=hardware.name).save(staging / "plan.json")
        write_json(staging / "report.json", report, Report)
        (staging / "report.txt").write_text(report.text(), encoding="utf-8")
    return report
