"""Decompositions: how much faster layers are at half the multiplications, and what accuracy ranks cost.

Rows for `compression.py`: `layer_speeds` times single layers, `accuracies` evaluates trained networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from rows import Row
from tasks import Task

import tersor
from tersor.compiler import calibrated_plan, silent
from tersor.compression import compress
from tersor.config import Config
from tersor.model import Build, Model
from tersor.recipe import Recipe
from tersor.stopwatch import Stopwatch
from tersor.targets.cpu.host.detect import detect, hardware
from tests.models import Net

FASTER = 1.4  # times, at half the multiplications
# CP is left out: the alternating least squares of its hundreds of ranks take minutes for each wide layer.
HALF = ("rank-macs50", "spatial-macs50", "tucker-macs50", "filtergroups-macs50")
BUDGETS = (75, 50, 35)  # % of the multiplications
KINDS = ("rank", "spatial", "tucker", "filtergroups", "cp")

# By what they are: size of the image, channels in and out, stride; all are 3x3 with bias and ReLU.
VGG_AND_RESNET = {
    "vgg-112-64-128": (112, 64, 128, 1),
    "vgg-56-128-256": (56, 128, 256, 1),
    "vgg-28-256-512": (28, 256, 512, 1),
    "resnet-56-64-64": (56, 64, 64, 1),
    "resnet-28-128-128": (28, 128, 128, 1),
    "resnet-14-256-256": (14, 256, 256, 1),
    "resnet-7-512-512": (7, 512, 512, 1),
    "resnet-s2-56-64-128": (56, 64, 128, 2),
}


def layer_speeds(kinds: Sequence[str] = HALF, layers: Sequence[str] = tuple(VGG_AND_RESNET)) -> list[Row]:
    """Time each layer, one thread, in fp32 and int8, in turn with its decompositions.

    The last rows are of each kind: its geometric mean over the layers against the goal.
    """
    rows: list[Row] = []
    for name in layers:
        model = tersor.load_model(_filters(*VGG_AND_RESNET[name]), hardware=_one_core(), check=False)
        for precision in ("fp32", "int8"):
            builds = [_built(model, each) for each in (precision, *(f"{precision}+{kind}" for kind in kinds))]
            plain, *others = Stopwatch.for_cores(1).networks([build.runner for build in builds])
            row = Row("decomposition speed", precision, name, precision, "ms", 1e3 * float(np.median(plain)))
            rows.append(row)
            rows += [
                replace(row, backend=f"{precision}+{kind}", metric="times_faster", value=_ratio(plain, times))
                for kind, times in zip(kinds, others, strict=True)
            ]
    return [*rows, *_means(rows, len(layers))]


def _means(rows: Sequence[Row], count: int) -> list[Row]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.metric == "times_faster" and row.value:
            found.setdefault(row.backend, []).append(row.value)
    return [
        Row(
            "decomposition speed",
            backend,
            f"mean of {count}",
            backend,
            "times_faster",
            float(np.exp(np.log(values).mean())),
            FASTER,
            ">=",
        )
        for backend, values in found.items()
    ]


def _ratio(plain: np.ndarray, times: np.ndarray) -> float:
    return float(np.median(plain / times))


def _filters(size: int, inputs: int, outputs: int, stride: int) -> onnx.ModelProto:
    net = Net("filters", [1, inputs, size, size])
    net.op("Relu", net.conv("x", "filters", (inputs, outputs), stride=stride, bias=True), name="y")
    return net.finish(rank=4)


def _one_core() -> tersor.Hardware:
    return hardware(detect(None, 1))


def _built(model: Model, scheme: str) -> Build:
    """Compile as it was asked for; nothing that is slower is taken back."""
    samples: list[Mapping[str, np.ndarray]] = [model.buckets.largest.draw()]
    config = Config(scheme, recipe=Recipe(data_aware=False))
    plan, statistics = calibrated_plan(model, samples, samples, config, 1, silent)
    return model.compiled([compress(mod, plan, statistics) for mod in model.mods], plan.mappings)


def accuracies(
    found: Sequence[Task],
    precision: str = "fp32",
    kinds: Sequence[str] = KINDS,
    budgets: Sequence[int] = BUDGETS,
) -> list[Row]:
    """Evaluate networks whose layers were decomposed, by their weights alone and by what they meet."""
    rows: list[Row] = []
    for task in found:
        for kind in kinds:
            for budget in budgets:
                for aware in (False, True):
                    scheme = f"{precision}+{kind}-macs{budget}"
                    config = Config(scheme, recipe=Recipe(data_aware=aware))
                    judged = task.judge(task.logits(task.compiled(config)))
                    backend = f"{scheme} {'data-aware' if aware else 'plain'}"
                    figures = {"top1_%": judged.top1, "points_lost": judged.lost, "snr_db": judged.snr}
                    rows += [
                        Row("decomposition accuracy", scheme, task.name, backend, metric, value)
                        for metric, value in figures.items()
                    ]
    return rows
