"""A search in a process of its own, which says what it does, and is killed there.

It says each phase that begins, `measured` for a loss or a trial that is done, and `done` at the end.
"""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import tersor
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.scheduler.contract import Quantity

MEASURING = 2.0  # s that kernels are measured for on a CPU


class Watch:
    """Says each phase once when it begins."""

    def __init__(self, said: Connection) -> None:
        self._said, self._phase = said, ""

    def __call__(self, what: str, _done: int, _of: int | None) -> None:
        phase = "simulating" if what.startswith("simulating") else what.split(",")[0]
        if phase not in (self._phase, "evaluating"):
            self._phase = phase
            self._said.send(phase)


def saying(said: Connection, measure: Callable[..., Any]) -> Callable[..., Any]:
    """Say when something was measured."""

    def measured(*arguments: Any) -> Any:
        found = measure(*arguments)
        said.send("measured")
        return found

    return measured


def search(said: Connection, folder: Path, out: str, machine: str, minimize: Quantity) -> None:
    """Search for what takes the least of a quantity on a machine, or the `cpu`, and write what was found."""
    for name in ("loss", "evaluate"):
        setattr(NetworkEvaluator, name, saying(said, getattr(NetworkEvaluator, name)))
    hardware = None if machine == "cpu" else tersor.Hardware.load(Path(machine))
    settings = tersor.Settings(
        calibration_samples=16,
        loss_samples=8,
        trials=4,
        journal=folder / out / "search.sqlite",
        effort=200,
        last_effort=400,
        measuring=MEASURING,
    )
    watch = Watch(said)
    watch("importing", 0, None)
    model = tersor.load_model(folder / "model.onnx", hardware=hardware)
    samples = [{"x": sample[None]} for sample in np.load(folder / "data.npz")["x"]]
    contract = tersor.Contract(minimize, max_drop=10.0)
    searched = tersor.search(model, samples, contract, settings, progress=watch)
    watch("writing", 0, None)
    searched.save(folder / out)
    said.send("done")
