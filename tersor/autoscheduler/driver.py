"""Driver: from a model, data and a contract to a compressed library, its plan, a front and a report.

    calibrate > losses of schemes > costs of schemes and mappings > trials > finalists > front

Everything that takes long is in the journal as soon as it is known. The budget is kept by ending the losses
and the trials early: the time to compile a plan is put aside from the beginning.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from math import inf
from typing import Any

import numpy.typing as npt

from tersor.autoscheduler.budget import Budget, TimeUp, until
from tersor.autoscheduler.comparison import Comparison, transfers
from tersor.autoscheduler.compiling import Compiling
from tersor.autoscheduler.finalists import Finalist
from tersor.autoscheduler.losses import Losses, measure_losses, rounding_seconds
from tersor.autoscheduler.machine import Machine
from tersor.autoscheduler.machines import check_contract, machine_of, with_homes
from tersor.autoscheduler.page.amounts import duration
from tersor.autoscheduler.plans import Origin
from tersor.autoscheduler.report import Ablation, SpotCheck, Transfer
from tersor.autoscheduler.reserve import Reserve
from tersor.autoscheduler.result import Searched
from tersor.autoscheduler.settings import Settings
from tersor.autoscheduler.spot_check import spot_check
from tersor.autoscheduler.story import Story
from tersor.autoscheduler.trials import Trials
from tersor.blas import on_one_blas_thread
from tersor.compiler import Progress, silent
from tersor.error import UserError
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.model import Model
from tersor.network import Network
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.planning import model_hash
from tersor.recipe import Recipe
from tersor.scheduler.ablations import uniform
from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import limits_of, modelled
from tersor.scheduler.journal import Journal
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.space import Space
from tersor.scheduler.trial import Trial
from tersor.scheme import INT8
from tersor.statistics import Statistics

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

# Of the time that is not put aside, what losses and then, of what is left, mappings may take at most.
_LOSSES = 0.5
_MAPPINGS = 0.5


@on_one_blas_thread
def search(
    model: Model,
    data: Iterable[Mapping[str, Array]],
    contract: Contract,
    settings: Settings | None = None,
    *,
    evaluation: Iterable[Mapping[str, Array]] | None = None,
    labels: Array | None = None,
    started: float | None = None,
    progress: Progress = silent,
) -> Searched:
    """Find, compile and report on the plan that keeps a contract and takes the least of what it minimises.

    The first samples of `data` calibrate, `evaluation` (by default the same) decides with `labels` [samples],
    if there are some. Of a model with an accelerator the machine's model says what a plan takes, on the CPU
    time is measured. If nothing keeps the contract, the plan that is the closest to it is given. `started`
    is when the budget began to run, by `time.monotonic`. Raises UserError for a contract that this machine
    cannot have, data that does not fit, and a budget that is too short to compile anything.
    """
    settings = settings or Settings()
    budget = Budget(contract.budget, started=started)
    for accelerator in (model.accelerator, *settings.also):
        check_contract(contract, accelerator)
    given = list(islice(data, settings.calibration_samples))
    evaluated = given if evaluation is None else list(evaluation)
    with Journal(settings.journal) as journal:
        machine = machine_of(
            model,
            journal.of("costs"),
            settings.kernels,
            settings.measuring,
            settings.effort,
            settings.last_effort,
        )
        reserve = Reserve.expected(0.0, on_cpu=model.accelerator is None)
        searching = _Search(model, machine, contract, settings, budget, journal, progress, reserve)
        try:
            return searching.run(given, evaluated, labels)
        except TimeUp:
            raise UserError(searching.too_short()) from None


@dataclass
class _Search:
    model: Model
    machine: Machine
    contract: Contract
    settings: Settings
    budget: Budget
    file: Journal
    progress: Progress
    reserve: Reserve

    def run(self, data: Samples, evaluated: Samples, labels: Array | None) -> Searched:
        """Go through all phases. Raises TimeUp if the budget does not last until a plan is compiled."""
        budget = self.budget
        with budget.phase("importing"):
            compiling = self.model.float_build.seconds
        self.reserve = Reserve.expected(compiling, on_cpu=self.model.accelerator is None)
        self._check_budget()
        with budget.phase("calibrating"):
            statistics = self._calibrated(data)
        with budget.phase("compiling the evaluation"):
            evaluator = self._evaluator(statistics, evaluated, labels)
        journal = self.file.of(evaluator.digest)
        self._go_on(journal)
        self.reserve = self._reserved(evaluator)
        self._check_budget()
        self.progress = self._noted(journal)
        with budget.phase("measuring layers"):
            losses = self._losses(evaluator, journal)
        if self._recipe.rounding != "nearest":
            self.reserve = self.reserve.rounding(rounding_seconds(losses, journal))
        with budget.phase("finding mappings"):
            self.machine = with_homes(self.machine, self.model, statistics)
            problem = self._problem(losses, journal)
        with budget.phase("trying plans"):
            trials = Trials(problem, evaluator, journal, partial(self.machine.rated, self._network, problem))
            tried = trials.run(
                self.settings.strategy,
                self.contract,
                [self._baseline(problem)],
                self.settings.trials,
                budget,
                self.reserve.all,
                self._name,
                self.progress,
            )
        origin = Origin(model_hash(self.model.mod), self.machine.name, statistics.digest(), self._recipe)
        story = Story(self._network, origin, self.contract, problem, trials, tried, losses, self._spaces)
        with budget.phase("finding the front"):
            self.progress("finding the front", 0, None)
            assert story.front
        with budget.phase("comparing"):
            comparison = self._comparison(evaluator, journal)
            ablations, transferred = self._compared(comparison, problem, tried)
        with budget.phase("compiling plans"):
            compiling = Compiling(
                self.model,
                self.machine,
                self.contract,
                self.settings.last_effort,
                self.budget,
                self.reserve,
                journal,
                self._name,
                self.progress,
            )
            finalists = compiling.finalists(story, data, evaluated, labels)
            self.reserve = compiling.reserve
        with budget.phase("simulating"):
            check = self._spot_check(finalists[-1], data[0])
        return story.told(
            finalists,
            check,
            self.model.name,
            self.settings.strategy.name,
            self.settings.seed,
            labels is not None,
            budget.phases(),
            ablations,
            transferred,
        )

    # The phases

    def _calibrated(self, data: Samples) -> Statistics:
        layers = [layer.name for layer in self._network.layers]
        return calibrate(
            self.model.observe(*self.model.mods),
            data,
            lambda done: self.progress("calibrating", done, len(data)),
            find_windows(self.model.mod, layers),
        )

    def _evaluator(self, statistics: Statistics, samples: Samples, labels: Array | None) -> NetworkEvaluator:
        return NetworkEvaluator(
            self.model,
            statistics,
            self._recipe,
            samples,
            labels,
            self.settings.loss_samples,
            self.progress,
        )

    def _go_on(self, journal: Journal) -> None:
        """Count the time of a run under the same contract that did not come to its end."""
        if journal.known("chosen", self._name) is None:
            self.budget.go_on(journal.known("clock", self._name) or 0.0)

    def _noted(self, journal: Journal) -> Progress:
        """Show progress, and take down the time that is spent: it counts if the run is killed."""
        shown, noted = self.progress, 0.0

        def show(what: str, done: int, of: int | None) -> None:
            nonlocal noted
            spent = self.budget.spent
            if spent - noted >= 1.0:
                journal.write("clock", self._name, spent)
                noted = spent
            shown(what, done, of)

        return show

    def _reserved(self, evaluator: NetworkEvaluator) -> Reserve:
        """The time to compile plans."""
        budget, evaluation = self.budget, "compiling the evaluation"
        return Reserve.by(
            evaluator.compile_seconds,
            budget.of("calibrating"),
            budget.of(evaluation) - evaluator.compile_seconds,
            len({replace(layer, name="") for layer in self._network.layers}),
            budget.slow(evaluation),
            on_cpu=self.model.accelerator is None,
        )

    def _check_budget(self) -> None:
        """Raise TimeUp if there is not the time for one plan."""
        if not self.budget.has(self.reserve.search + self.reserve.least):
            raise TimeUp

    def too_short(self) -> str:
        """Say how long a budget has to be, once the time is up without a plan."""
        earlier = self.budget.earlier
        gone = f", {duration(earlier)} of which went to a run that did not end," if earlier else ""
        return (
            f"a budget of {duration(self.contract.budget or 0.0)}{gone} is too short to compile a plan: give "
            f"{duration(self.reserve.enough(self.budget.spent))} or more"
        )

    def _losses(self, evaluator: NetworkEvaluator, journal: Journal) -> Losses:
        kept = self._end(_LOSSES)
        schemes = {name: self._spaces[name].legal for name in self._groups}
        return measure_losses(
            evaluator,
            self._groups,
            schemes,
            journal,
            self.budget,
            kept,
            self._name,
            self.progress,
            self.reserve.least,
        )

    def _problem(self, losses: Losses, journal: Journal) -> Problem:
        schemes = {name: tuple(row) for name, row in losses.known.items() if row}
        shown, end = partial(self._show, "finding mappings"), self._end(_MAPPINGS)
        show = until(lambda: self.budget.left - self.reserve.least, shown)
        found = journal.remember(
            "settled",
            self._name,
            lambda: self.machine.settle(self._network, schemes, show, lambda: self.budget.left - end),
        )
        self.machine = self.machine.settled(found)
        return self.machine.problem(self._network, schemes, losses.known, shown)

    def _end(self, share: float) -> float:
        """Seconds that are to be left after this share of the time that is not put aside."""
        kept = self.reserve.all + self.reserve.search
        free = max(0.0, self.budget.left - kept)
        return kept + (1 - share) * free if free < inf else kept

    def _show(self, what: str, done: int, of: int) -> None:
        self.progress(what, done, of)

    def _baseline(self, problem: Problem) -> Policy:
        """Uniform int8, or what is next to it, with the best mappings for the contract."""
        figure = modelled(self.contract.minimize)
        return closest(uniform(problem, INT8), figure, limits_of(self.contract)).policy

    def _comparison(self, evaluator: NetworkEvaluator, journal: Journal) -> Comparison:
        return Comparison(
            self._network,
            self._groups,
            evaluator,
            journal,
            self.contract,
            self.settings.trials,
            self.budget,
            self.reserve.all + self.reserve.search,
            self._name,
            self.progress,
        )

    def _compared(
        self, comparison: Comparison, problem: Problem, tried: Sequence[Trial]
    ) -> tuple[tuple[Ablation, ...], tuple[Transfer, ...]]:
        """Compare what was found with what searches find that may choose less, and with other machines."""
        own = comparison.chosen(self.machine, problem, tried)
        ablations: list[Ablation] = []
        if self.settings.ablations:
            ways = [*comparison.ways(self.machine, problem), ("joint", own)]
            ablations = [each.ablation(name) for name, each in ways]
        if not self.settings.also:
            return tuple(ablations), ()
        found = comparison.also(own, self.settings.also, self.settings.strategy)
        return tuple(ablations), transfers(found, self._network, self.contract)

    def _spot_check(self, chosen: Finalist, sample: Mapping[str, Array]) -> SpotCheck | None:
        """Simulate the chosen network on an accelerator, if there is time for it."""
        needed = self.reserve.simulating(self._network.macs) + self.reserve.writing
        if self.model.accelerator is None or not self.budget.has(needed):
            return None
        layers = {name for choice in chosen.policy.values() for name in choice.mappings}
        return spot_check(chosen.compiled.runner, sample, layers, self.model.accelerator, self.progress)

    # What is the same in all phases

    @cached_property
    def _network(self) -> Network:
        return extract(self.model.mod)

    @cached_property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        """The layers that get one scheme, by the first of them."""
        tied = {group[0]: group for group in self._network.tied}
        copies = {name for group in self._network.tied for name in group[1:]}
        return {
            layer.name: tied.get(layer.name, (layer.name,))
            for layer in self._network.layers
            if layer.name not in copies
        }

    @cached_property
    def _spaces(self) -> dict[str, Space]:
        return {name: self.machine.space(self._network[name]) for name in self._groups}

    @cached_property
    def _recipe(self) -> Recipe:
        """Of 8 bits the nearest code is as good as any, and GPTQ takes minutes for the widest layers."""
        schemes = (scheme for space in self._spaces.values() for scheme in space.legal)
        narrow = any(scheme.weight and scheme.weight_bits < 8 for scheme in schemes)
        return self.settings.recipe or Recipe(rounding="gptq" if narrow else "nearest")

    @cached_property
    def _name(self) -> str:
        """What the journal calls a run: a digest of all that it decides by, before it settles anything."""
        settings = self.settings
        limits = settings.trials, settings.seed, settings.last_effort
        said = repr((self.machine.digest, self.contract, settings.strategy, *limits))
        return hashlib.sha256(said.encode()).hexdigest()
