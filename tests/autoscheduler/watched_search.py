"""A search in a process of its own, which says on its standard output what it does, and is killed there.

    python watched_search.py MODEL DATA OUT MACHINE|cpu QUANTITY

Each line is a phase that begins, or `measured` for a loss or a trial that is done. `done` is the last.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tersor
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.scheduler.contract import Quantity

MEASURING = 2.0  # s that kernels are measured for on a CPU


class Watch:
    """Says each phase once when it begins."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, what: str, _done: int, _of: int | None) -> None:
        phase = "simulating" if what.startswith("simulating") else what.split(",")[0]
        if phase not in (self._phase, "evaluating"):
            self._phase = phase
            say(phase)


def say(line: str) -> None:
    print(line, flush=True)


def saying(measure: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*arguments: Any) -> Any:
        found = measure(*arguments)
        say("measured")
        return found

    return measured


def main(model: str, data: str, out: str, machine: str, minimize: Quantity) -> None:
    """Search for what takes the least of a quantity, and write what was found."""
    for name in ("loss", "evaluate"):
        setattr(NetworkEvaluator, name, saying(getattr(NetworkEvaluator, name)))
    hardware = None if machine == "cpu" else tersor.Hardware.load(Path(machine))
    contract = tersor.Contract(minimize, max_drop=10.0)
    settings = tersor.Settings(
        calibration_samples=16,
        loss_samples=8,
        trials=4,
        journal=Path(out) / "search.sqlite",
        effort=200,
        last_effort=400,
        measuring=MEASURING,
    )
    watch = Watch()
    watch("importing", 0, None)
    imported = tersor.load_model(model, hardware=hardware)
    samples = [{"x": sample[None]} for sample in np.load(data)["x"]]
    searched = tersor.search(imported, samples, contract, settings, progress=watch)
    watch("writing", 0, None)
    searched.save(out)
    say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])  # pyright: ignore[reportArgumentType]
