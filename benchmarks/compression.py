"""What compression costs and gains: accuracy without training, bytes, and speed, by format and algorithm.

    python benchmarks/compression.py [--cifar DIR] [--imagenet DIR] [--tables int8] [--limit N] [--json FILE]

`tasks.py` says what the folders hold. All accuracies are of compiled execution, on images that calibrated
nothing.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from algorithms import algorithms
from channels import channels
from container import container, digits
from decomposition import accuracies, layer_speeds
from peers import nncf_int8, onnxruntime_int8, session
from rows import Row, print_rows, write_rows
from sparsity import sparsity
from tasks import Accuracy, Run, Task, one_by_one, tasks
from weight_formats import weight_formats

import tersor
from tersor.error import UserError

SIGNIFICANT = 0.05


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    found = tasks(arguments.cifar, arguments.imagenet, arguments.limit)
    wanted = arguments.tables.split(",") if arguments.tables else list(TABLES)
    if unknown := [name for name in wanted if name not in TABLES]:
        raise UserError(f"there is no table {unknown[0]!r}: choose of {', '.join(TABLES)}")
    rows: list[Row] = []
    for name in wanted:
        title, table = TABLES[name]
        print(f"{name} ...", file=sys.stderr)
        rows += (made := table(found))
        print_rows(title, made)
    if arguments.json:
        write_rows(arguments.json, rows)


def int8(found: Sequence[Task]) -> list[Row]:
    """Our int8 beside onnxruntime's and NNCF's, calibrated on the same images."""
    rows: list[Row] = []
    for task in found:
        builds = {"tersor": task.compiled("int8"), "onnxruntime": _onnxruntime(task), "nncf": _nncf(task)}
        logits = {name: task.logits(run) for name, run in builds.items()}
        judged = {name: task.judge(each) for name, each in logits.items()}
        for name, accuracy in judged.items():
            rows += accuracy_rows("int8", task, name, accuracy)
        best = max(judged[name].snr or 0.0 for name in ("onnxruntime", "nncf"))
        snr = Row("int8", "int8", task.name, "tersor", "snr_db", judged["tersor"].snr, best, ">=")
        behind = max(_significant(*task.behind(logits["tersor"], logits[name])) for name in logits)
        lost = replace(snr, metric="significant_points_behind_a_peer", value=behind)
        rows += [snr, replace(lost, goal=0.0, direction="<=")]
    return rows


def accuracy_rows(table: str, task: Task, backend: str, accuracy: Accuracy) -> list[Row]:
    """Give the figures of one build."""
    figures = {
        "top1_%": accuracy.top1,
        "points_lost": accuracy.lost,
        "p": accuracy.p,
        "agreement_%": accuracy.agreement,
        "snr_db": accuracy.snr,
    }
    return [Row(table, backend, task.name, backend, metric, value) for metric, value in figures.items()]


def _significant(points: float, p: float) -> float:
    """Give the points of a difference that is more than chance; else 0."""
    return points if p < SIGNIFICANT and points > 0 else 0.0


def _onnxruntime(task: Task) -> Run:
    return _whole_batches(task, session(onnxruntime_int8(task.source, one_by_one(task.calibration)), 2, True))


def _nncf(task: Task) -> Run:
    samples = one_by_one(task.calibration)
    return _whole_batches(task, session(nncf_int8(task.source, samples, len(samples)), 2, True))


def _whole_batches(task: Task, opened: object) -> Run:
    def run(batch: dict) -> list:
        results = [opened.run(None, each)[0] for each in one_by_one([batch])]
        return [np.concatenate(results)]

    return run


TABLES: dict[str, tuple[str, Callable[[Sequence[Task]], list[Row]]]] = {
    "int8": ("int8 on the same calibration images", int8),
    "formats": ("every weight format, rounded to nearest", weight_formats),
    "algorithms": ("4-bit weights: every algorithm beside plain rounding", algorithms),
    "sparsity": ("pruned without training, in float32 unless int8 is said", sparsity),
    "channels": ("half of the multiplications pruned in whole channels", channels),
    "decomposition": ("decomposed without training", accuracies),
    "layers": ("layers decomposed to half of their multiplications", lambda _: layer_speeds()),
    "container": ("pruned, shared and entropy coded", lambda found: container([digits(), *found])),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--imagenet", type=Path)
    parser.add_argument("--tables", help=f"which of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--limit", type=int, help="images to evaluate at most (default: all)")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
