"""Accuracy of pruned networks without training: by pattern and criterion, with and without repair.

The networks run in float32 with the pruned weights, so a figure is the cost of the zeros alone; rows with
int8 in their scheme are compiled as any other library is. Layers that cannot have a pattern keep all their
weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rows import Row
from tasks import Accuracy, Task

from tersor.config import Config
from tersor.error import UserError
from tersor.model import Model
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.passes.pruning.prune import prune
from tersor.recipe import Criterion, Recipe
from tersor.saliency_observer import saliency_observer, watched
from tersor.scheme import Scheme
from tersor.sparsity import why_no_pattern
from tersor.statistics import Statistics

CRITERIA: Sequence[Criterion] = ("magnitude", "global", "wanda", "obc", "taylor")
PATTERNS = ("2:4", "4:8", "1:4", "block4x8-50", "sparse50", "sparse70", "sparse80", "sparse90")
COMPILED = ("int8+2:4",)
LOST = 3.0  # points that 2:4 may lose on resnet20 once it is repaired


def sparsity(found: Sequence[Task]) -> list[Row]:
    """Give points lost and SNR of every pattern by every criterion."""
    rows: list[Row] = []
    for task in found:
        statistics = _statistics(task)
        for pattern in PATTERNS:
            for recipe in _recipes(pattern):
                pruned = _pruned(task, pattern, statistics, recipe)
                rows += _rows(task, f"{pattern} {_named(recipe)}", task.judge(task.logits(pruned)), recipe)
        for scheme in COMPILED:
            recipe = Recipe()
            try:
                library = task.compiled(Config(scheme=scheme, recipe=recipe))
            except UserError as error:
                rows.append(
                    Row("sparsity", scheme, task.name, scheme, "points_lost", None, note=f"{scheme}: {error}")
                )
                continue
            rows += _rows(task, f"{scheme} {_named(recipe)}", task.judge(task.logits(library)), recipe)
    return rows


def _recipes(pattern: str) -> Iterator[Recipe]:
    for criterion in CRITERIA:
        if criterion == "global" and ":" in pattern:
            continue  # every group keeps its number, so it is magnitude
        for repair in (False, True):
            yield Recipe(criterion=criterion, repair=repair)


def _named(recipe: Recipe) -> str:
    return f"{recipe.criterion}{' repaired' if recipe.repair else ''}"


def _statistics(task: Task) -> Statistics:
    mod = task.model.mod
    layers = [layer.name for layer in extract(mod).layers if layer.weight_bearing]
    observer = saliency_observer(task.model, layers)
    samples = watched(task.calibration, task.model, observer)
    seen = calibrate(task.model.observe(mod), samples, windows=find_windows(mod, layers))
    return replace(seen, saliencies=observer.saliencies())


def _pruned(task: Task, pattern: str, statistics: Statistics, recipe: Recipe) -> Any:
    mod = task.model.mod
    scheme = Scheme.parse(f"fp32+{pattern}")
    assert scheme.sparsity is not None
    layers = extract(mod).layers
    schemes: Mapping[str, Scheme] = {
        layer.name: scheme for layer in layers if not why_no_pattern(layer, scheme.sparsity)
    }
    model = task.model
    pruned = prune(mod, schemes, statistics, recipe)
    return Model(model.name, pruned, model.host, model.output_names, batched=model.batched).float_runner


def _rows(task: Task, backend: str, accuracy: Accuracy, recipe: Recipe) -> list[Row]:
    row = Row("sparsity", backend, task.name, backend, "points_lost", accuracy.lost)
    rows = [row, replace(row, metric="snr_db", value=accuracy.snr)]
    is_goal = task.name == "resnet20" and "2:4" in backend and recipe == Recipe()
    return [*rows, replace(row, goal=LOST, direction="<=")] if is_goal else rows
