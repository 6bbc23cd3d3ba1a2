"""Driver: from a model, data and a contract to a compressed library, its plan, a front and a report.

    calibrate > losses of schemes > costs of schemes and mappings > trials > finalists > front

Everything that takes long is in the journal as soon as it is known. The budget is kept by ending the losses
and the trials early: the time to compile a plan is put aside from the beginning.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.compiler import Compiled, Progress, compile, silent
from tersor.error import UserError
from tersor.evaluation import NetworkEvaluator
from tersor.model import Model
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.plan import Plan
from tersor.planning import model_hash
from tersor.recipe import Recipe
from tersor.scheduler.ablations import uniform
from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import limits_of, modelled
from tersor.scheduler.journal import Journal
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.trial import Strategy, Trial
from tersor.scheme import INT8
from tersor.search.budget import Budget
from tersor.search.finalists import Candidate, Finalist, settle
from tersor.search.front import front_of
from tersor.search.losses import Losses, measure_losses
from tersor.search.machine import Machine, machine_of
from tersor.search.plans import Origin
from tersor.search.result import Searched, Story
from tersor.search.trials import Trials, best_first
from tersor.statistics import Statistics

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Settings:
    """How to search: by which strategy and recipe, on how many samples, and where results are kept.

    `trials` are full validations of the network with other weights; those of finalists, at most two, come on
    top. A loss is measured on `loss_samples`. Without files, journal and costs last as long as the search.
    """

    strategy: Strategy = field(default_factory=Exact)
    recipe: Recipe = field(default_factory=Recipe)
    calibration_samples: int = 128
    trials: int = 8
    loss_samples: int = 64
    journal: Path | None = None
    costs: Path | None = None


def search(
    model: Model,
    data: Samples,
    contract: Contract,
    settings: Settings | None = None,
    *,
    evaluation: Samples | None = None,
    labels: Array | None = None,
    started: float | None = None,
    progress: Progress = silent,
) -> Searched:
    """Find, compile and report on the plan that keeps a contract and takes the least of what it minimises.

    The first samples of `data` calibrate, `evaluation` (by default the same) decide with `labels` [samples],
    if there are some. Of a model with an accelerator the machine's model says what a plan takes, on the CPU
    time is measured. If nothing keeps the contract, the plan that is the closest to it is given. `started`
    is when the budget began to run, by `time.monotonic`. Raises UserError for a contract that this machine
    cannot have, data that does not fit, and a budget that is too short to compile anything.
    """
    settings = settings or Settings()
    machine = machine_of(model, settings.costs)
    machine.check(contract)
    return _Search(model, list(data[: settings.calibration_samples]), contract, settings, machine).run(
        list(data if evaluation is None else evaluation), labels, started, progress
    )
