"""What each algorithm of quantization gains over plain rounding, at 4-bit weights and 8-bit inputs.

Compiled execution of every recipe. A layer is won where its output inside the network has a higher SNR than
with plain rounding, on the first calibration samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rows import Row
from tasks import EFFICIENTNET, Accuracy, Task

from tersor.compiler import Compiled
from tersor.config import Config
from tersor.recipe import Recipe
from tersor.rule import Rule
from tersor.scheme import INT8

SCHEME = "w4a8"
PLAIN = "nearest"
RECIPES: Mapping[str, Recipe] = {
    PLAIN: Recipe(bias_correction=False),
    "bias correction": Recipe(),
    "least squares": Recipe(rounding="mse"),
    "equalized": Recipe(equalize=True),
    "smoothed 0.5": Recipe(smooth=0.5),
    "gptq": Recipe(rounding="gptq"),
    "gptq equalized": Recipe(rounding="gptq", equalize=True),
    "adaround": Recipe(rounding="adaround"),
}
"""All with corrected biases but the first."""

# Nine weights of a depthwise filter have a scale of their own, and the ends of a network see the most noise:
# of a network with depthwise layers they keep 8 bits.
ENDS = (Rule(INT8, kind="depthwise"), Rule(INT8, kind="first"), Rule(INT8, kind="last"))
RULES = {EFFICIENTNET: ENDS, "mobilenetv2": ENDS}
POINTS_LOST = {"resnet20": 1.0, EFFICIENTNET: 4.0}
"""What the best algorithm may lose."""


def algorithms(found: Sequence[Task]) -> list[Row]:
    """Give accuracy, and gain and layers won over plain rounding, of every recipe on every network."""
    rows: list[Row] = []
    for task in found:
        judged = {name: _judged(task, recipe) for name, recipe in RECIPES.items()}
        plain, before = judged[PLAIN]
        for name, (accuracy, layers) in judged.items():
            figures = {
                "top1_%": accuracy.top1,
                "points_lost": accuracy.lost,
                "agreement_%": accuracy.agreement,
                "snr_db": accuracy.snr,
                "snr_gain_db": None if not accuracy.snr or not plain.snr else accuracy.snr - plain.snr,
                "layers_won_%": 100 * _won(layers, before),
            }
            rows += [
                Row("algorithms", SCHEME, task.name, name, metric, value) for metric, value in figures.items()
            ]
        if task.name in POINTS_LOST:
            best = min(judged, key=lambda name: judged[name][0].lost)
            last = Row("algorithms", SCHEME, task.name, f"best: {best}", "points_lost", judged[best][0].lost)
            rows.append(replace(last, goal=POINTS_LOST[task.name], direction="<="))
    return rows


def _judged(task: Task, recipe: Recipe) -> tuple[Accuracy, dict[str, float]]:
    config = Config(SCHEME, recipe=recipe, rules=RULES.get(task.name, ()))
    compiled = task.compiled(config)
    return task.judge(task.logits(compiled)), _layer_snr(compiled)


def _layer_snr(compiled: Compiled) -> dict[str, float]:
    return {each.name: each.snr_db for each in compiled.report.layers if each.snr_db is not None}


def _won(layers: Mapping[str, float], before: Mapping[str, float]) -> float:
    return sum(snr > before[name] for name, snr in layers.items()) / len(layers)
