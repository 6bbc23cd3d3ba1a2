"""A process of its own for one build's memory: memory.py FOLDER THREADS BACKEND FILE prints JSON.

`peak_mb` is by how much the resident memory of the process rises at most above what it is with the runtime
and the inputs in memory, while the build is loaded and run three times. It needs Linux, which can forget an
earlier peak.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from opened import load_runtime, open_build


def main(folder: Path, threads: int, backend: str, file: str) -> None:
    """Load, run and print."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    load_runtime(backend)
    inputs = dict(np.load(folder / "inputs.npz"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    build = open_build(backend, folder / file, threads, inputs)
    for _ in range(3):
        build.run()
    print(json.dumps({"peak_mb": (_status("VmHWM") - before) / 1e6}))


def _status(field: str) -> int:
    """Give a field of this process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
