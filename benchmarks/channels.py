"""Channel pruning: half of the multiplications gone, and what that saves in time and costs in accuracy.

    python benchmarks/channels.py [--cifar DIR] [--imagenet DIR] [--limit N] [--share P] [--json OUT] [FILE..]

Networks with images (see `tasks.py`) are judged and timed; FILEs are ONNX files that are only timed. Nothing
is trained. Times are CPU time on one thread, of two builds in turn.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import Row, print_rows, write_rows
from tasks import Task, tasks
from timing import calls, timed

import tersor
from tersor.compiler import calibrated_plan, silent
from tersor.compression import compress, reshape_layers
from tersor.config import Config
from tersor.model import Build, Model
from tersor.passes.extract import extract
from tersor.plan import Plan
from tersor.planning import plan_for
from tersor.recipe import Recipe
from tersor.scheme import Scheme

GOAL = 1.7  # times faster at half of the multiplications
SHARE = 50.0  # % of the multiplications that go
ROUNDS = 30
RECIPES = {
    "repaired": Recipe(criterion="wanda"),
    "not repaired": Recipe(criterion="wanda", repair=False),
}
TIMED = Recipe(criterion="global", repair=False)  # needs no data, and time does not depend on values


def channels(found: Sequence[Task], share: float = SHARE) -> list[Row]:
    """Judge and time every task without `share` % of its multiplications, in float and in integers."""
    return [*accuracy(found, share), *(row for task in found for row in _speed_of(task, share))]


def accuracy(found: Sequence[Task], share: float = SHARE) -> list[Row]:
    """Give top-1 and what is lost, with the readers of dropped channels repaired and as they were."""
    rows: list[Row] = []
    for task in found:
        reference = task.judge(task.reference).top1
        rows.append(Row("channels", "fp32", task.name, "fp32", "top1_%", reference))
        for precision in ("fp32", "int8"):
            for how, recipe in RECIPES.items():
                compiled = task.compiled(Config(f"{precision}+channels{share:g}", recipe=recipe))
                judged = task.judge(task.logits(compiled))
                small, _ = reshape_layers(task.model.mod, compiled.plan, compiled.statistics)
                figures = {
                    "macs_%": 100 * extract(small).macs / extract(task.model.mod).macs,
                    "top1_%": judged.top1,
                    "points_lost": judged.lost,
                    "snr_db": judged.snr,
                }
                backend = f"{precision}, {how}"
                rows += [Row("channels", how, task.name, backend, *each) for each in figures.items()]
    return rows


def speed(name: str, model: Model, samples: Sequence[Mapping[str, NDArray[Any]]], share: float) -> list[Row]:
    """Time a network against itself without `share` % of its multiplications, in float and in integers."""
    model = replace(model, host=replace(model.host, cores=1))
    rows: list[Row] = []
    for precision in ("fp32", "int8"):
        dense, _ = _built(model, samples, Config(precision))
        pruned, plan = _built(model, samples, Config(f"{precision}+channels{share:g}", recipe=TIMED))
        before, after = _times([dense, pruned], samples[0])
        left, _ = reshape_layers(model.mod, plan, None)
        figures = {
            "macs_%": 100 * extract(left).macs / extract(model.mod).macs,
            "cpu_ms": after,
            "dense_cpu_ms": before,
        }
        rows += [Row("channels", "speed", name, precision, *each) for each in figures.items()]
        rows.append(Row("channels", "speed", name, precision, "times_faster", before / after, GOAL, ">="))
    return rows


def _speed_of(task: Task, share: float) -> list[Row]:
    model = tersor.load_model(task.source, check=False)
    single = [{name: array[:1] for name, array in each.items()} for each in task.calibration]
    return speed(task.name, model, single, share)


def _built(model: Model, samples: Sequence[Mapping[str, NDArray[Any]]], config: Config) -> tuple[Build, Plan]:
    if Scheme.parse(config.scheme).weight:
        plan, seen = calibrated_plan(model, samples, list(samples), config, len(samples), silent)
    else:
        plan, seen = plan_for(config, model.mod, model.host, None), None
    return model.compiled([compress(mod, plan, seen) for mod in model.mods], plan.mappings), plan


def _times(builds: Sequence[Build], sample: Mapping[str, NDArray[Any]]) -> list[float]:
    """Give the median CPU time of a run of each build in ms, of rounds in which each has its turn."""
    runs = [lambda runner=each.runner: runner(sample) for each in builds]
    counts = [calls(run) for run in runs]
    seen: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + 5
    while len(seen[0]) < ROUNDS or time.perf_counter() < end:
        for run, count, times in zip(runs, counts, seen, strict=True):
            times.append(timed(run, count)[0])
    return [statistics.median(times) for times in seen]


def _random(model: Model) -> list[dict[str, NDArray[Any]]]:
    random = np.random.default_rng(0)
    return [
        {name: random.normal(size=shape).astype(dtype) for name, (shape, dtype) in model.inputs.items()}
        for _ in range(4)
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--imagenet", type=Path)
    parser.add_argument("--limit", type=int, help="images to evaluate at most (default: all)")
    parser.add_argument("--share", type=float, default=SHARE, help="%% of the multiplications that go")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for path in arguments.models:
        print(f"{path.stem} ...", file=sys.stderr)
        model = tersor.load_model(path, check=False)
        rows += speed(path.stem, model, _random(model), arguments.share)
    found = tasks(arguments.cifar, arguments.imagenet, arguments.limit)
    rows += channels(found, arguments.share)
    print_rows(f"channels: {arguments.share:g} % of the multiplications are gone", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


if __name__ == "__main__":
    try:
        main()
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
