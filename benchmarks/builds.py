"""All builds of one network as files in a folder: ours and those of onnxruntime and OpenVINO."""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import Network
from peers import onnxruntime_dynamic, onnxruntime_int8, openvino_int8

import tersor
from tersor.hardware import Hardware

BACKENDS = (
    "tersor-fp32", "tersor-int8", "ort-fp32", "ort-int8", "openvino-f32", "openvino-default", "openvino-int8",
)  # fmt: skip
# onnxruntime's ranges found at run time: only for transformers, beside its static int8.
DYNAMIC = "ort-dynamic"

Samples = list[Mapping[str, Any]]


@dataclass(frozen=True)
class Build:
    """What one backend runs: a file, the bytes of all its files, the processor seconds it took to make.

    Of a build that could not be made `why` says why, and the rest is empty.
    """

    backend: str
    file: str = ""
    size: int = 0
    seconds: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Built:
    """The builds of a network, and the report on our int8."""

    builds: tuple[Build, ...]
    report: tersor.Report


def write_builds(network: Network, source: onnx.ModelProto, host: Hardware, folder: Path) -> Built:
    """Write every build and the first sample, inputs.npz, to the folder."""
    start = _processor_seconds()
    model = tersor.load_model(source, hardware=host)
    samples: Samples = list(network.samples(model.inputs))
    int8 = tersor.compile(model, samples, "int8", measure=False)
    int8.save(folder / "tersor-int8")
    seconds = _processor_seconds() - start
    tersor.compile(model, samples, "fp32", measure=False).save(folder / "tersor-fp32")
    np.savez(folder / "inputs.npz", allow_pickle=False, **samples[0])
    onnx.save(source, folder / "fp32.onnx")
    builds = [
        _described("tersor-fp32", folder, ["tersor-fp32/model.so"]),
        _described("tersor-int8", folder, ["tersor-int8/model.so"], seconds),
        *_peers(network, source, samples, folder),
    ]
    return Built(tuple(builds), int8.report)


def _peers(network: Network, source: onnx.ModelProto, samples: Samples, folder: Path) -> Iterable[Build]:
    def static() -> list[str]:
        onnx.save(onnxruntime_int8(source, samples), folder / "ort-int8.onnx")
        return ["ort-int8.onnx"]

    def dynamic() -> list[str]:
        onnx.save(onnxruntime_dynamic(source), folder / "ort-dynamic.onnx")
        return ["ort-dynamic.onnx"]

    def nncf() -> list[str]:
        import openvino

        quantized = openvino_int8(folder / "fp32.onnx", samples, len(samples), network.transformer)
        openvino.save_model(quantized, folder / "openvino-int8.xml", compress_to_fp16=False)
        return ["openvino-int8.xml", "openvino-int8.bin"]

    yield _described("ort-fp32", folder, ["fp32.onnx"])
    yield _made("ort-int8", folder, static)
    if network.transformer:
        yield _made(DYNAMIC, folder, dynamic)
    yield _described("openvino-f32", folder, ["fp32.onnx"])
    yield _described("openvino-default", folder, ["fp32.onnx"])
    yield _made("openvino-int8", folder, nncf)


def _made(backend: str, folder: Path, make: Callable[[], list[str]]) -> Build:
    """Make a peer's build, quietly; a tool that fails is a finding, and ends nothing."""
    logging.disable(logging.WARNING)
    start = _processor_seconds()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            files = make()
    except Exception as error:
        return Build(backend, why=(str(error).strip().splitlines() or [type(error).__name__])[0])
    finally:
        logging.disable(logging.NOTSET)
    return _described(backend, folder, files, _processor_seconds() - start)


def _processor_seconds() -> float:
    """Give what this process and those it started have used: the wall time of one thread, were it alone."""
    return sum(os.times()[:4])


def _described(backend: str, folder: Path, files: list[str], seconds: float | None = None) -> Build:
    return Build(backend, files[0], sum((folder / file).stat().st_size for file in files), seconds)
