"""A build opened in its runtime: what runs it once, on inputs that are in place, and what that gave.

A backend's name says who runs its file: tersor, onnxruntime (`ort-`) or OpenVINO (`openvino-`). Each is
called in the way that costs least from Python: ours on tensors of its device, onnxruntime with bound inputs,
OpenVINO by an infer request whose input tensors are set, started and waited for.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Opened:
    """A build in memory: `run` runs it once, `outputs` reads what the last run gave."""

    run: Callable[[], Any]
    outputs: Callable[[], list[NDArray[Any]]]


def load_runtime(backend: str) -> None:
    """Import what runs a backend's file."""
    modules = {"tersor": "tersor.runner", "ort": "onnxruntime", "openvino": "openvino"}
    importlib.import_module(modules[backend.partition("-")[0]])


def open_build(backend: str, path: Path, threads: int, inputs: Arrays) -> Opened:
    """Load a build's file for `threads` threads."""
    if backend.startswith("tersor"):
        return _tersor(path, inputs)
    if backend.startswith("ort"):
        return _onnxruntime(path, threads, inputs)
    hints = {"openvino-f32": {"INFERENCE_PRECISION_HINT": "f32"}}.get(backend, {})
    return _openvino(path, threads, inputs, hints)


def _tersor(path: Path, inputs: Arrays) -> Opened:
    from tersor.runner import Runner

    shapes = {name: (array.shape, str(array.dtype)) for name, array in inputs.items()}
    runner = Runner.load(path, shapes)
    prepared = runner.prepare(inputs)
    run = lambda: runner.run(prepared)  # noqa: E731
    return Opened(run, lambda: [tensor.numpy() for tensor in run()])


def _onnxruntime(path: Path, threads: int, inputs: Arrays) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return Opened(lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu)


def _openvino(path: Path, threads: int, inputs: Arrays, hints: Mapping[str, str]) -> Opened:
    import openvino

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads), **hints}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    request = compiled.create_infer_request()
    for name, array in inputs.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def run() -> None:
        request.start_async()
        request.wait()

    return Opened(run, lambda: [np.array(request.get_tensor(port).data) for port in compiled.outputs])
