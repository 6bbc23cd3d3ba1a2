"""A process of its own that times builds in turn: timing.py FOLDER THREADS SECONDS NAME... prints JSON.

A name ending in .so is a library that tersor wrote, one ending in .onnx runs in onnxruntime; inputs.npz holds
the inputs. Per build: the median of process CPU time and of wall time of one run, in ms.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path, threads: int, seconds: float, names: list[str]) -> None:
    """Time and print."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    inputs = dict(np.load(folder / "inputs.npz"))
    runs = {name: opened(folder / name, threads, inputs) for name in names}
    counts = {name: calls(run) for name, run in runs.items()}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(seen[names[-1]]) < 5:
        for name, run in runs.items():
            seen[name].append(timed(run, counts[name]))
    medians = {
        name: [statistics.median(times) for times in zip(*pairs, strict=True)] for name, pairs in seen.items()
    }
    print(json.dumps(medians))


def opened(path: Path, threads: int, inputs: dict[str, Any]) -> Callable[[], Any]:
    """Load a build and give what runs it once."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return lambda: session.run(None, inputs)
    from tersor.runner import Runner

    runner = Runner.load(path, {name: (array.shape, str(array.dtype)) for name, array in inputs.items()})
    prepared = runner.prepare(inputs)
    return lambda: runner.run(prepared)


def calls(run: Callable[[], Any]) -> int:
    """Give how many runs take at least 5 ms; the first few warm up."""
    count = 1
    while True:
        _, wall = timed(run, count)
        if wall * count >= 5:
            return count
        count *= 2


def timed(run: Callable[[], Any], count: int) -> tuple[float, float]:
    """Give CPU time and wall time of one of `count` runs in ms."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        run()
    return (time.process_time() - cpu) * 1e3 / count, (time.perf_counter() - wall) * 1e3 / count


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
