"""Compiling: the best policies of a search as plans, with the mappings and tensors that suit them best.

What is decided by the clock (which mappings there was time to search, what won a race) is in the journal, so
a run that is begun again after its end compiles what that one did.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt
import tvm

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.budget import Budget, TimeUp, until
from tersor.autoscheduler.finalists import Candidate, Done, Finalist, finalist, ordered_by, settle
from tersor.autoscheduler.machine import Machine, Rated, Show
from tersor.autoscheduler.on_chip import KeptOnChip, as_planned, keep_on_chip
from tersor.autoscheduler.reserve import Reserve
from tersor.autoscheduler.story import Story
from tersor.autoscheduler.timing import race, timed
from tersor.compiler import Progress, compile
from tersor.model import Model
from tersor.plan import Plan
from tersor.scheduler.contract import Contract
from tersor.scheduler.journal import Journal
from tersor.scheduler.problem import Policy
from tersor.stopwatch import Stopwatch

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]


@dataclass
class Compiling:
    """Compiles what a search, `run` in the journal, has found; `reserve` learns how long that takes."""

    model: Model
    machine: Machine
    contract: Contract
    effort: int
    budget: Budget
    reserve: Reserve
    journal: Journal
    run: str
    progress: Progress

    def finalists(
        self, story: Story, data: Samples, evaluated: Samples, labels: Array | None
    ) -> list[Finalist]:
        """Compile the best plans, the one to be emitted last, and uniform int8 with as much care.

        `data` calibrates, `evaluated` with its `labels` decides. A run that came to its end before compiles
        what it had chosen.
        """
        compiled = partial(self._compiled, data, evaluated, labels)
        candidate = partial(self._candidate, story)
        raced = self.journal.known("race", self.run)
        known = self.journal.known("chosen", self.run) or (raced and raced["won"])
        if known is not None:
            beside = self.journal.known("beside", self.run)
            again = [each for each in story.all() if each[0] in (known, beside)]
            ordered = sorted(again, key=lambda each: each[0] == known)
            finalists = [finalist(candidate(*each), compiled) for each in ordered]
            return finalists if raced is None else timed(finalists, raced["seconds"])
        best = (candidate(*each) for each in story.best_first())
        finalists = settle(best, self.contract, compiled, self.budget, lambda: self.reserve.all)
        if self.model.accelerator is None:
            others = (candidate(*each) for each in story.baselines())
            finalists = self._raced(finalists, others, compiled)
        elif self.budget.has(self.reserve.all):
            baseline = story.baselines()[0]
            if baseline[0] not in {each.name for each in finalists}:
                finalists = ordered_by([finalist(candidate(*baseline), compiled), *finalists], self.contract)
                self.journal.write("beside", self.run, baseline[0])
        self.journal.write("chosen", self.run, finalists[-1].name)
        return finalists

    def _compiled(
        self, data: Samples, evaluated: Samples, labels: Array | None, candidate: Candidate
    ) -> Done:
        start = self.budget.spent
        on_chip: list[KeptOnChip] = []
        apart = 0.0  # what no other plan needs

        def amend(mod: tvm.IRModule, plan: Plan) -> Plan:
            nonlocal apart
            before = self.budget.spent
            on_chip.append(self._on_chip(candidate, mod, plan))
            apart = self.budget.spent - before
            return on_chip[-1].plan

        found = compile(
            self.model,
            data,
            candidate.plan,
            calibration_samples=len(data),
            evaluation=evaluated,
            labels=labels,
            progress=self.progress,
            measure=self.model.accelerator is None,
            race=False,
            amend=amend,
        )
        self.reserve = self.reserve.after(self.budget.spent - start - apart)
        if not on_chip:
            return Done(found, candidate.policy, candidate.cost)
        rated = on_chip[-1].rated
        return Done(found, rated.policy, rated.cost, on_chip[-1].tensors)

    def _raced(
        self, finalists: list[Finalist], others: Iterable[Candidate], compiled: Callable[[Candidate], Done]
    ) -> list[Finalist]:
        """Race the best finalist with uniform int8 and fp32, and give it, or what beats it, last.

        The others are left out if the budget has no time left for them.
        """
        entered = [*reversed(finalists)]
        for each in others:
            known = each.name in {finalist.name for finalist in finalists}
            if not known and self.budget.has(self.reserve.least):
                entered.append(finalist(each, compiled))
        self.progress("racing", 0, None)
        raced = race(entered, self.contract, Stopwatch.for_cores(self.model.host.cores))
        self.journal.write("race", self.run, raced)
        return sorted(timed(entered, raced["seconds"]), key=lambda each: each.name == raced["won"])

    def _candidate(self, story: Story, name: str, policy: Policy) -> Candidate:
        """Give a policy as a plan, with the best mappings that more effort finds if there is time for it."""
        show: Show = partial(self.progress, "finding better mappings")
        key = f"{self.run} {name}"
        known = self.journal.known("refined", key)
        if known is None:
            first = self.reserve.refining(self.effort)
            show = until(lambda: self.budget.left - self.reserve.all, show, first)
        rated = self.machine.rated(story.network, story.problem, policy)
        if known is not False:
            try:
                rated = self.machine.refined(story.network, story.problem, policy, self.contract, show)
                self.journal.write("refined", key, True)
            except TimeUp:
                self.journal.write("refined", key, False)
        return Candidate(name, rated.policy, story.plan(rated.policy), rated.cost)

    def _on_chip(self, candidate: Candidate, mod: tvm.IRModule, plan: Plan) -> KeptOnChip:
        """Keep tensors on the chip of the accelerator, if there is time to find out which."""
        before, key = Rated(candidate.policy, candidate.cost), f"{self.run} {candidate.name}"
        known = self.journal.known("on chip", key)
        if not isinstance(self.machine, Accelerator):
            return KeptOnChip(plan, before)
        hardware = self.machine.costs.hardware
        if known is False:
            return as_planned(mod, plan, before, hardware)
        show: Show = partial(self.progress, "keeping tensors on the chip")
        if known is None:
            first = self.reserve.refining(self.effort)
            show = until(lambda: self.budget.left - self.reserve.writing, show, first)
        try:
            found = keep_on_chip(mod, plan, before, self.machine, self.contract, show)
        except TimeUp:
            self.journal.write("on chip", key, False)
            return as_planned(mod, plan, before, hardware)
        self.journal.write("on chip", key, True)
        return found
