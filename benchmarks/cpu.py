"""Speed, memory and size on this CPU: our builds beside those of onnxruntime and OpenVINO.

    python benchmarks/cpu.py [--models resnet18,mlp-b1] [--layers] [--threads 2] [--isa avx2] [--json FILE]

One thread: process CPU time counts, all builds in turn in one fresh process. More threads: wall time counts,
in a fresh process for each build, because pools of threads spin. Peak memory is measured in a process for
each build, as what it adds to one that has its runtime loaded. Sizes are of all files that a build needs at
run time. The SNR is of one sample's outputs against those of the model in onnxruntime. `compile_s` is the
processor time of what `tersor compress` does, from the import of the model and its check to the written
library, without the measuring; of peers it is the time that quantizing takes.

With --isa OpenVINO is held to the same instruction set (by ONEDNN_MAX_CPU_ISA); onnxruntime cannot be.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from builds import Build, write_builds
from goals import judged, ratios
from layers import LAYERS, macs
from models import NETWORKS, Network, normals
from rows import Row, print_rows, write_rows

import tersor
from tersor.hardware import Hardware
from tersor.measure import Power
from tersor.targets.cpu.host.detect import detect, hardware

MODELS = (
    "resnet18", "resnet50", "mobilenetv2", "efficientnet-lite0", "resnet8", "minilm-l3-s32", "minilm-l3-s128",
    "mlp-b1", "mlp-b64", "silero-step",
)  # fmt: skip
# oneDNN's names of the instruction sets, for OpenVINO.
ONEDNN = {
    "avx512-vnni": "AVX512_CORE_VNNI",
    "avx512": "AVX512_CORE",
    "avx-vnni": "AVX2_VNNI",
    "avx2": "AVX2",
    "plain": "SSE41",
}
PACKAGES = ("onnxruntime", "openvino", "nncf", "apache-tvm")


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    host = hardware(detect(arguments.isa, arguments.threads))
    environment = dict(os.environ)
    if arguments.isa is not None and arguments.isa != detect().isa.name:
        environment["ONEDNN_MAX_CPU_ISA"] = ONEDNN[arguments.isa]
    rows: list[Row] = []
    for name, network in _chosen(arguments).items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += _Measurement(name, network, host, arguments.threads, environment, arguments.seconds).rows()
        if arguments.json:
            write_rows(arguments.json, rows)  # what is there so far, should a later model fail
    speeds = ratios(rows, "cpu_ms" if arguments.threads == 1 else "wall_ms")
    verdicts = [] if arguments.layers else judged([*rows, *speeds], host.features[0], arguments.threads)
    print_rows(_title(host, arguments.threads), rows)
    print_rows("times as fast", [*speeds, *verdicts])
    if arguments.json:
        write_rows(arguments.json, [*rows, *speeds, *verdicts])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", help=f"of {', '.join(NETWORKS)}; by default {', '.join(MODELS)}")
    parser.add_argument("--layers", action="store_true", help="single layers; --models then chooses of those")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", help="instruction set, at most the CPU's own")
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring for each model, at least")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    known = LAYERS if arguments.layers else NETWORKS
    if arguments.models and (unknown := set(arguments.models.split(",")) - set(known)):
        parser.error(f"unknown model {min(unknown)!r}: choose from {', '.join(known)}")
    return arguments


def _chosen(arguments: argparse.Namespace) -> dict[str, Network]:
    if arguments.layers:
        known = {name: Network(build, normals) for name, build in LAYERS.items()}
    else:
        known = NETWORKS
    default = LAYERS if arguments.layers else MODELS
    names = arguments.models.split(",") if arguments.models else default
    return {name: known[name] for name in names}


def _title(host: Hardware, threads: int) -> str:
    cpu = next((line.split(": ")[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{cpu}, {host.name}, {many}, {datetime.date.today()}; {versions}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


class _Measurement:
    """One network: its builds in a folder, then what they take."""

    def __init__(
        self,
        name: str,
        network: Network,
        host: Hardware,
        threads: int,
        environment: dict[str, str],
        seconds: float,
    ) -> None:
        self.name, self.network, self.host, self.threads = name, network, host, threads
        self.environment, self.seconds = environment, seconds
        self.row = partial(Row, "cpu", f"{host.name}-t{threads}", name)

    def rows(self) -> list[Row]:
        """Build and measure; a network whose package is missing is one row with the reason."""
        try:
            source = self.network.build()
        except tersor.UserError as error:
            return [self.row("tersor-int8", "cpu_ms", None, note=f"{self.name} is left out: {error}")]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            built = write_builds(self.network, source, self.host, folder)
            builds = [build for build in built.builds if not build.why]
            rows = [row for build in built.builds for row in self._described(build)]
            rows += self._timed(folder, builds)
            rows += self._compared(folder, builds)
            rows += [self._memory(folder, build) for build in builds]
        sizes = {build.backend: build.size for build in builds}
        totals = built.report.totals
        rows.append(self.row("tersor-int8", "file_ratio", sizes["tersor-int8"] / sizes["ort-fp32"]))
        if totals.bytes_fp32:  # a product of two activations has no weights
            rows.append(self.row("tersor-int8", "stored_ratio", totals.bytes / totals.bytes_fp32))
        if self.name in LAYERS:
            rows.append(self.row("tersor-int8", "mmacs", macs(source) / 1e6))
        return rows

    def _described(self, build: Build) -> Iterable[Row]:
        if build.why:
            note = f"{self.name}: no {build.backend}: {build.why}"
            yield self.row(build.backend, "cpu_ms", None, note=note)
            return
        yield self.row(build.backend, "file_mb", build.size / 1e6)
        if build.seconds is not None:
            yield self.row(build.backend, "compile_s", build.seconds)

    def _timed(self, folder: Path, builds: list[Build]) -> list[Row]:
        rows = []
        for group in [builds] if self.threads == 1 else [[build] for build in builds]:
            for backend, times in self._times(folder, group, self.threads, len(builds)).items():
                rows += [self.row(backend, metric, value) for metric, value in times.items()]
                if self.threads > 1 and backend.startswith("tersor"):
                    alone = self._times(folder, group, 1, len(builds))[backend]["wall_ms"]
                    rows.append(self.row(backend, "scaling", alone / times["wall_ms"]))
        return rows

    def _times(
        self, folder: Path, group: list[Build], threads: int, count: int
    ) -> dict[str, dict[str, float]]:
        seconds = self.seconds * len(group) / count
        files = [f"{build.backend}={build.file}" for build in group]
        return self._call("timing.py", folder, threads, seconds, *files)

    def _compared(self, folder: Path, builds: list[Build]) -> Iterable[Row]:
        """Compare what the builds gave with what onnxruntime made of the model."""
        outputs = {build.backend: np.load(folder / f"outputs-{build.backend}.npz") for build in builds}
        reference = outputs.pop("ort-fp32")
        for backend, arrays in outputs.items():
            powers = [Power() for _ in reference]
            for power, name in zip(powers, reference, strict=True):
                power.add(reference[name], arrays[name])
            snr = min((power.snr for power in powers if power.snr is not None), default=None)
            yield self.row(backend, "snr_db", snr)

    def _memory(self, folder: Path, build: Build) -> Row:
        found = self._call("memory.py", folder, self.threads, build.backend, build.file)
        return self.row(build.backend, "peak_mb", found["peak_mb"])

    def _call(self, script: str, *arguments: Any) -> Any:
        command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=self.environment)
        return json.loads(run.stdout)


if __name__ == "__main__":
    try:
        main()
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
