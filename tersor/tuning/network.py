"""Tune a network: its plan, the kernels that it gives, and the mappings that are faster on this CPU."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

from tersor.compiler import INSPECTED, Progress, Samples, calibrated_plan, silent
from tersor.compression import compress
from tersor.config import Config
from tersor.model import Model
from tersor.plan import Plan
from tersor.runner import use_threads
from tersor.targets.cpu.host.detect import cpu_name
from tersor.tuning.journal import Journal
from tersor.tuning.measurement import Laboratory, meter
from tersor.tuning.tune import Tuned, tune, with_mappings


def tune_network(
    model: Model,
    data: Samples | None,
    config: Config | Plan | str,
    journal: Path,
    budget: float,
    *,
    calibration_samples: int = 128,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Plan, tuple[Tuned, ...]]:
    """Plan a network, and look for `budget` seconds for mappings of its layers that are faster on this CPU.

    Gives the plan with them, and what was found for each shape of layer. Measurements are kept in the
    directory `journal`, and those that are there are not made again. Without `data` the kernels are those
    that random inputs give, and the plan names no statistics. Raises UserError for data that does not fit
    the model and a journal that cannot be used.
    """
    use_threads(model.host.cores)
    measured = Journal(journal, model.host, cpu_name())
    samples = [model.buckets.largest.draw()] if data is None else data
    inspected = list(islice(samples, INSPECTED))
    plan, statistics = calibrated_plan(model, samples, inspected, config, calibration_samples, progress)
    *smaller, largest = model.lowered_alike([compress(mod, plan, statistics) for mod in model.mods])
    uses = [use for lowered in (largest, *smaller) for use in lowered.uses]
    laboratory = Laboratory(model.host, meter(model.host.cores))
    tuned = tune(uses, model.host.cores, laboratory, measured, budget, seed, progress)
    plan = with_mappings(plan, tuned)
    return (replace(plan, statistics=None) if data is None else plan), tuned
