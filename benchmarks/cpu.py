"""Speed and size on this CPU: our int8 beside our fp32 and onnxruntime's two.

    python benchmarks/cpu.py [--models resnet18,mlp] [--threads 2] [--isa avx2] [--json FILE]

One thread: the median of process CPU time, builds interleaved in one fresh process. More threads: wall time,
a fresh process for each build.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import NETWORKS
from peers import onnxruntime_int8
from rows import Row, print_rows, write_rows

import tersor
from tersor.hardware import Hardware
from tersor.targets.cpu.detect import detect, hardware

FASTER = {"resnet18": 1.5, "efficientnet-lite0": 1.5}  # int8 over our own fp32
STORED = {"efficientnet-lite0": 0.27}  # constants of int8 over those of fp32
FILE = {"resnet18": 0.27}  # library over the ONNX file of fp32
SNR = {"resnet18": 30.0, "efficientnet-lite0": 20.0, "digit-cnn": 20.0, "mlp": 20.0}  # dB


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    host = hardware(detect(arguments.isa, arguments.threads))
    rows: list[Row] = []
    for name in arguments.models.split(","):
        print(f"{name} ...", file=sys.stderr)
        rows += _measure(name, host, arguments.threads, arguments.seconds)
    threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    print_rows(f"{host.name}, {threads}", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", help="instruction set, at most the CPU's own")
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring for each model")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if unknown := set(arguments.models.split(",")) - set(NETWORKS):
        parser.error(f"unknown model {min(unknown)!r}: choose from {', '.join(NETWORKS)}")
    return arguments


def _measure(name: str, host: Hardware, threads: int, seconds: float) -> list[Row]:
    def row(backend: str, metric: str, value: float | None, **goal: Any) -> Row:
        return Row("cpu", f"{host.name}-t{threads}", name, backend, metric, value, **goal)

    try:
        source = NETWORKS[name].build()
    except tersor.UserError as error:
        return [row("tersor-int8", "cpu_ms", None, note=f"{name} is left out: {error}")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, builds = _build(source, name, host, folder, row)
        medians = _time(folder, list(builds.values()), threads, seconds)
        for backend, file in builds.items():
            cpu, wall = medians[file]
            rows += [row(backend, "cpu_ms", cpu), row(backend, "wall_ms", wall)]
            rows += [row(backend, "file_bytes", (folder / file).stat().st_size)]
        clock = 0 if threads == 1 else 1
        speed = medians[builds["tersor-fp32"]][clock] / medians[builds["tersor-int8"]][clock]
        rows += [row("tersor-int8", "speedup", speed, **_goal(FASTER, name, ">="))]
        share = (folder / builds["tersor-int8"]).stat().st_size / len(source.SerializeToString())
        rows += [row("tersor-int8", "file_ratio", share, **_goal(FILE, name, "<="))]
    return rows


def _build(
    source: onnx.ModelProto, name: str, host: Hardware, folder: Path, row: Any
) -> tuple[list[Row], dict[str, str]]:
    """Write every build and the inputs to the folder; give sizes and errors, and the file of each backend."""
    model = tersor.load_model(source, hardware=host)
    samples = list(NETWORKS[name].samples(model.inputs))
    np.savez(folder / "inputs.npz", allow_pickle=False, **samples[0])
    rows: list[Row] = []
    builds: dict[str, str] = {}
    for scheme in ("fp32", "int8"):
        compiled = tersor.compile(model, samples, scheme, measure=False)
        compiled.save(folder / scheme)
        builds[f"tersor-{scheme}"] = f"{scheme}/model.so"
        totals = compiled.report.totals
        rows.append(row(f"tersor-{scheme}", "stored_bytes", totals.bytes))
        if scheme == "int8":
            rows.append(row("tersor-int8", "snr_db", totals.snr_db, **_goal(SNR, name, ">=")))
            ratio = totals.bytes / totals.bytes_fp32
            rows.append(row("tersor-int8", "stored_ratio", ratio, **_goal(STORED, name, "<=")))
    try:
        quantized = onnxruntime_int8(source, samples)
    except tersor.UserError as error:
        return [*rows, row("ort-int8", "cpu_ms", None, note=f"onnxruntime is left out: {error}")], builds
    for backend, built in (("ort-fp32", source), ("ort-int8", quantized)):
        builds[backend] = f"{backend}.onnx"
        onnx.save(built, folder / builds[backend])
        rows.append(row(backend, "stored_bytes", sum(len(w.raw_data) for w in built.graph.initializer)))
    return rows, builds


def _goal(goals: dict[str, float], name: str, direction: str) -> dict[str, Any]:
    return {"goal": goals[name], "direction": direction} if name in goals else {}


def _time(folder: Path, files: list[str], threads: int, seconds: float) -> dict[str, list[float]]:
    """Give [CPU ms, wall ms] of each file; pools of several threads spin, so they get their own process."""
    groups = [files] if threads == 1 else [[file] for file in files]
    medians: dict[str, list[float]] = {}
    for group in groups:
        command = [sys.executable, str(Path(__file__).with_name("timing.py")), str(folder), str(threads)]
        command += [str(seconds / len(groups)), *group]
        medians |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return medians


if __name__ == "__main__":
    try:
        main()
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
