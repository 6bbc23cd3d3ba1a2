"""A process of its own that times builds in turn.

    timing.py FOLDER THREADS SECONDS BACKEND=FILE...      prints JSON

inputs.npz in the folder holds the inputs. Per build: the median of process CPU time and of wall time of one
run in ms, over at least ROUNDS rounds in which each build has its turn: a run that warms its caches, then as
many timed ones as take 5 ms. What each gave is left in the folder as outputs-BACKEND.npz.
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
from opened import open_build

ROUNDS = 30


def main(folder: Path, threads: int, seconds: float, files: dict[str, str]) -> None:
    """Time and print."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    inputs = dict(np.load(folder / "inputs.npz"))
    builds = {backend: open_build(backend, folder / file, threads, inputs) for backend, file in files.items()}
    counts = {backend: calls(build.run) for backend, build in builds.items()}
    seen: dict[str, list[tuple[float, float]]] = {backend: [] for backend in builds}
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < ROUNDS:
        rounds += 1
        for backend, build in builds.items():
            build.run()
            seen[backend].append(timed(build.run, counts[backend]))
    for backend, build in builds.items():
        np.savez(folder / f"outputs-{backend}.npz", *build.outputs())
    print(json.dumps({backend: medians(pairs) for backend, pairs in seen.items()}))


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


def medians(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Give the medians of CPU time and of wall time."""
    cpu, wall = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"cpu_ms": cpu, "wall_ms": wall}


if __name__ == "__main__":
    given = (argument.split("=", 1) for argument in sys.argv[4:])
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), dict(given))
