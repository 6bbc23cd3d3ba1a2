"""Comparison: what searches reach that may choose less, and what plans for one machine take on another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.budget import Budget, TimeUp, until
from tersor.autoscheduler.losses import Groups, measure_losses
from tersor.autoscheduler.machine import Machine
from tersor.autoscheduler.report import Ablation, Transfer
from tersor.autoscheduler.trials import Trials, best_first
from tersor.compiler import Progress
from tersor.hardware import Hardware
from tersor.network import Network
from tersor.scheduler.ablations import mapping_only, uniform
from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import limits_of, modelled
from tersor.scheduler.journal import Journal
from tersor.scheduler.machine_problem import policy_cost
from tersor.scheduler.machine_problem import problem as machine_problem
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.strategies.sequential import Sequential
from tersor.scheduler.strategies.uniform import Uniform
from tersor.scheduler.trial import Evaluator, Strategy, Trial
from tersor.scheme import INT8, Scheme


@dataclass(frozen=True)
class Chosen:
    """The best that was found for a machine, by the problem that it was, after so many evaluations."""

    machine: Machine
    problem: Problem
    best: Trial
    evaluations: int

    def ablation(self, name: str) -> Ablation:
        """As reports have it."""
        return Ablation(name, self.best.cost, self.best.measured.drop, self.evaluations)


@dataclass(frozen=True)
class Comparison:
    """Searches under one contract, with the same losses and samples and at most `most` trials each.

    All begin with uniform int8, and end when only `reserve` seconds of the budget are left. `run` names the
    search that they are compared with in the journal.
    """

    network: Network
    groups: Groups
    evaluator: Evaluator
    journal: Journal
    contract: Contract
    most: int
    budget: Budget
    reserve: float
    run: str
    progress: Progress

    def problem(self, machine: Machine) -> Problem:
        """All groups with their legal schemes and the mappings that matter. Raises TimeUp."""
        run = f"{self.run} {machine.digest}"
        schemes = {name: machine.space(self.network[name]).legal for name in self.groups}
        losses = measure_losses(
            self.evaluator, self.groups, schemes, self.journal, self.budget, self.reserve, run, self.progress
        )
        legal = {name: tuple(row) for name, row in losses.known.items() if row}
        show = until(lambda: self.budget.left - self.reserve, partial(self.progress, "finding mappings"))
        return machine.problem(self.network, legal, losses.known, show)

    def search(self, machine: Machine, problem: Problem, strategy: Strategy) -> tuple[Trial, ...]:
        """Try what a strategy proposes."""
        return self.trials(machine, problem).run(
            strategy,
            self.contract,
            [self.mapped(uniform(problem, INT8))],
            self.most,
            self.budget,
            self.reserve,
            f"{self.run} {machine.digest} {sha256(repr(strategy).encode()).hexdigest()}",
            self.progress,
        )

    def chosen(self, machine: Machine, problem: Problem, trials: Sequence[Trial]) -> Chosen:
        """Give the best of some trials."""
        return Chosen(machine, problem, best_first(trials, self.contract)[0], len(trials))

    def ways(self, machine: Machine, problem: Problem) -> Iterator[tuple[str, Chosen]]:
        """Choose with less; by name. Those that there is no time for are left out.

        "sequential" compresses without a thought of the machine, and is mapped to it afterwards; what it has
        no format for, it runs in a wider one. "sequential, its formats" knows which it has, and no more.
        "uniform" has one scheme for all layers, "mapping only" compresses nothing.
        """
        blind = machine.blind()
        if blind is not machine and self.budget.has(self.reserve):
            try:
                every = self.problem(blind)
            except TimeUp:
                return
            yield "sequential", self.chosen(blind, every, self.search(blind, every, self._sequential))
        for name, strategy in (
            ("sequential, its formats" if blind is not machine else "sequential", self._sequential),
            ("uniform", Uniform()),
        ):
            if self.budget.has(self.reserve):
                yield name, self.chosen(machine, problem, self.search(machine, problem, strategy))
        for name, less in (("int8", uniform(problem, INT8)), ("mapping only", mapping_only(problem))):
            if self.budget.has(self.reserve):
                measured = self.trials(machine, problem).measure(self.mapped(less))
                yield name, self.chosen(machine, problem, [measured])

    @property
    def _sequential(self) -> Sequential:
        return Sequential(self.network)

    def also(self, own: Chosen, machines: Sequence[Hardware], strategy: Strategy) -> list[Chosen]:
        """Search for other accelerators too, as many of them as there is time for; `own` comes first."""
        assert isinstance(own.machine, Accelerator)
        found = [own]
        for hardware in machines:
            machine = own.machine.on(hardware)
            try:
                problem = self.problem(machine)
            except TimeUp:
                break
            found.append(self.chosen(machine, problem, self.search(machine, problem, strategy)))
        return found

    def trials(self, machine: Machine, problem: Problem) -> Trials:
        """What measures policies."""
        rated = partial(machine.rated, self.network, problem)
        return Trials(problem, self.evaluator, self.journal, rated)

    def mapped(self, problem: Problem) -> Policy:
        """The best mappings where each group has one scheme."""
        return closest(problem, modelled(self.contract.minimize), limits_of(self.contract)).policy


def transfers(found: Sequence[Chosen], network: Network, contract: Contract) -> tuple[Transfer, ...]:
    """Run what was chosen for each accelerator on each; a format it lacks is run in the next wider one."""
    return tuple(_transfer(one, other, network, contract) for one in found for other in found)


def _transfer(chosen: Chosen, other: Chosen, network: Network, contract: Contract) -> Transfer:
    target = other.machine
    assert isinstance(target, Accelerator)
    drop = chosen.best.measured.drop
    if other is chosen:
        return Transfer(target.name, target.name, chosen.best.cost, drop)
    schemes = chosen.problem.schemes(chosen.best.policy)
    run = {
        name: choice.scheme
        for name, choice in chosen.best.policy.items()
        if target.costs.why_not(network[name], choice.scheme) is None
    }
    losses = {name: {scheme: 0.0} for name, scheme in run.items()}
    problem = machine_problem(network, {name: (each,) for name, each in run.items()}, losses, target.costs)
    policy = closest(problem, modelled(contract.minimize), {}).policy
    cost = policy_cost(network, replace(problem, carried_out=target.carried_out), policy, target.costs)
    return Transfer(chosen.machine.name, target.name, cost, drop, _widened(network, schemes, target))


def _widened(network: Network, schemes: Mapping[str, Scheme], machine: Accelerator) -> int:
    return sum(machine.costs.running(network[name], scheme) != scheme for name, scheme in schemes.items())
