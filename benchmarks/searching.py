"""Searching: one network, whose losses and trials all strategies and machines share, in a journal."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from subjects import Subject

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.budget import Budget
from tersor.autoscheduler.comparison import Comparison
from tersor.autoscheduler.machines import with_homes
from tersor.autoscheduler.plans import key_of
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.hardware import Hardware
from tersor.network import Network
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.passes.quantization.tensors import settled
from tersor.recipe import Recipe
from tersor.scheduler.contract import Contract
from tersor.scheduler.costs import Costs
from tersor.scheduler.journal import Journal
from tersor.scheme import Scheme
from tersor.statistics import Statistics
from tersor.targets.cpu.host.detect import detect
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
        """What tries plans, on one core: searches of other networks may run beside this one."""
        subject = self.subject
        return NetworkEvaluator(
            replace(subject.model, host=detect(cores=1)),
            self._statistics,
            Recipe(rounding="gptq"),
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
        carried_out = partial(settled, self.subject.model.mod)
        host = described(self.subject.model.host)
        machine = Accelerator(costs, host, self.effort, carried_out=carried_out)
        found = with_homes(machine, self.subject.model, self._statistics)
        assert isinstance(found, Accelerator)
        return found

    def comparison(self, contract: Contract, most: int) -> Comparison:
        """Searches with at most `most` trials each, which share losses and trials."""
        return Comparison(
            self.network,
            self.groups,
            self.evaluator,
            self.journal,
            contract,
            most,
            Budget(None),
            0.0,
            f"{contract} {most}",
            partial(_say, self.subject.name),
        )

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


def _say(what: str, step: str, done: int, of: int | None) -> None:
    if done % 50 == 0:
        print(f"{what}: {step} {done}/{of if of is not None else '?'}", file=sys.stderr)
