"""Searching: one network, whose losses and trials all strategies and machines share, in a journal."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from subjects import Subject

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.budget import Budget
from tersor.autoscheduler.losses import measure_losses
from tersor.autoscheduler.plans import key_of
from tersor.autoscheduler.trials import Trials, best_first
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.hardware import Hardware
from tersor.network import Network
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.recipe import Recipe
from tersor.scheduler.ablations import mapping_only, uniform
from tersor.scheduler.contract import Contract
from tersor.scheduler.costs import Costs
from tersor.scheduler.figures import limits_of, modelled
from tersor.scheduler.journal import Journal
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.trial import Strategy, Trial
from tersor.scheme import INT8, Scheme
from tersor.statistics import Statistics
from tersor.targets.cpu.host.detect import hardware as described

MACHINES = Path(__file__).parents[1] / "targets" / "machines"


@dataclass(frozen=True)
class Judged:
    """What schemes do on held-out samples: points lost, and which samples are right."""

    lost: float
    right: NDArray[np.bool_]

    def p(self, other: "Judged") -> float:
        """McNemar's exact test: how likely so different counts are if both are equally often right."""
        gained = int((self.right & ~other.right).sum())
        lost = int((other.right & ~self.right).sum())
        return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


class Searching:
    """A network with its statistics, evaluators and journal; `folder` keeps all of it between runs."""

    def __init__(self, subject: Subject, folder: Path, effort: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.subject, self.folder, self.effort = subject, folder, effort
        self.network: Network = extract(subject.model.mod)

    @cached_property
    def evaluator(self) -> NetworkEvaluator:
        """What tries plans."""
        subject = self.subject
        return NetworkEvaluator(
            subject.model,
            self._statistics,
            Recipe(),
            subject.tried.samples,
            subject.tried.labels,
            subject.losses,
            partial(_say, subject.name),
        )

    @cached_property
    def journal(self) -> Journal:
        """What is known of losses and trials."""
        return self._file.of(self.evaluator.digest)

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The layers that get one scheme, by the first of them."""
        tied = {group[0]: group for group in self.network.tied}
        copies = {name for group in self.network.tied for name in group[1:]}
        names = [layer.name for layer in self.network.layers if layer.name not in copies]
        return {name: tied.get(name, (name,)) for name in names}

    def machine(self, name: str) -> Accelerator:
        """A described machine, whose costs are kept."""
        costs = Costs(Hardware.load(MACHINES / f"{name}.toml"), self._file.of("costs"), self.effort)
        return Accelerator(costs, described(self.subject.model.host), self.effort)

    def problem(self, machine: Accelerator) -> Problem:
        """All layers with their legal schemes and the mappings that matter."""
        schemes = {name: machine.space(self.network[name]).legal for name in self.groups}
        show = partial(_say, f"{self.subject.name} on {machine.name}")
        losses = measure_losses(
            self.evaluator, self.groups, schemes, self.journal, Budget(None), 0.0, machine.digest, show
        )
        legal = {name: tuple(row) for name, row in losses.known.items() if row}
        return machine.problem(self.network, legal, losses.known, partial(show, "finding mappings"))

    def run(
        self, strategy: Strategy, contract: Contract, machine: Accelerator, problem: Problem, most: int
    ) -> tuple[Trial, ...]:
        """Try uniform int8 and then what a strategy proposes, `most` policies in all."""
        first = closest(uniform(problem, INT8), modelled(contract.minimize), limits_of(contract)).policy
        name = f"{strategy!r} {machine.digest} {contract} {most}"
        show = partial(_say, f"{self.subject.name} on {machine.name}, {strategy.name}")
        trials = self.trials(machine, problem)
        return trials.run(strategy, contract, [first], most, Budget(None), 0.0, name, show)

    def trials(self, machine: Accelerator, problem: Problem) -> Trials:
        """What measures policies."""
        return Trials(problem, self.evaluator, self.journal, partial(machine.cost, self.network, problem))

    def judged(self, schemes: Mapping[str, Scheme]) -> Judged:
        """What schemes do on the samples that no search has seen."""
        key = key_of(schemes)

        def find() -> list[int]:
            return self._judge.right(self._judge.outcome(schemes)).nonzero()[0].tolist()

        right = np.zeros(len(self.subject.judged.labels), bool)
        right[self._judge_journal.remember("judged", key, find)] = True
        before = np.zeros_like(right)
        before[
            self._judge_journal.remember("judged", "float", lambda: self._judge.right().nonzero()[0].tolist())
        ] = True
        lost = 100 * (int(before.sum()) - int(right.sum())) / len(right)
        return Judged(lost, right)

    @cached_property
    def _judge(self) -> NetworkEvaluator:
        return self.evaluator.on(self.subject.judged.samples, self.subject.judged.labels)

    @cached_property
    def _judge_journal(self) -> Journal:
        return self._file.of(self._judge.digest)

    @cached_property
    def _file(self) -> Journal:
        return Journal(self.folder / "search.sqlite")

    @cached_property
    def _statistics(self) -> Statistics:
        path = self.folder / f"{self.subject.name}-{len(self.subject.calibration)}.npz"
        if path.exists():
            return Statistics.load(path)
        model = self.subject.model
        windows = find_windows(model.mod, [layer.name for layer in self.network.layers])
        found = calibrate(model.observe(*model.mods), self.subject.calibration, None, windows)
        found.save(path)
        return found


def best(trials: Sequence[Trial], contract: Contract) -> Trial:
    """The trial that keeps the contract and takes the least."""
    return best_first(trials, contract)[0]


def mapped_only(problem: Problem, contract: Contract) -> Policy:
    """Nothing compressed, the best mappings."""
    return closest(mapping_only(problem), modelled(contract.minimize), limits_of(contract)).policy


def of_one_scheme(problem: Problem, scheme: Scheme, contract: Contract) -> Policy:
    """One scheme for all layers that may have it, the best mappings."""
    return closest(uniform(problem, scheme), modelled(contract.minimize), limits_of(contract)).policy


def _say(what: str, step: str, done: int, of: int | None) -> None:
    if done % 50 == 0:
        print(f"{what}: {step} {done}/{of if of is not None else '?'}", file=sys.stderr)
