"""Story: what happened in a search, and the report that tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from tersor.autoscheduler.finalists import Finalist
from tersor.autoscheduler.front import FRONT, DropModel
from tersor.autoscheduler.losses import Losses
from tersor.autoscheduler.machine import Rated
from tersor.autoscheduler.plans import Origin
from tersor.autoscheduler.report import (
    Ablation,
    Certificate,
    Evaluation,
    RatedPlan,
    SearchCell,
    SearchedLayer,
    SearchReport,
    Spent,
    SpotCheck,
    Transfer,
)
from tersor.autoscheduler.result import Searched
from tersor.autoscheduler.trials import Trials, best_first
from tersor.cost import Cost
from tersor.document import to_json
from tersor.network import Network
from tersor.plan import Plan
from tersor.scheduler.contract import Contract, Quantity
from tersor.scheduler.figures import Limits, figure_of, limits_of, modelled
from tersor.scheduler.front import front
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import find, infeasibility, reachable, solve
from tersor.scheduler.space import Space
from tersor.scheduler.trial import Trial
from tersor.scheme import FP32

UNMAPPED = "its mappings were not searched: the budget left no time"
LEAST_WORTH = 10.0  # points of drop that plans of the front may lose, more only if the contract allows it


@dataclass(frozen=True)
class Story:
    """The problem of a search, the policies that were tried (the first is the baseline), and the spaces."""

    network: Network
    origin: Origin
    contract: Contract
    problem: Problem
    trials: Trials
    tried: tuple[Trial, ...]
    losses: Losses
    spaces: dict[str, Space]

    @property
    def baseline(self) -> Trial:
        """Uniform int8."""
        return self.tried[0]

    @property
    def drops(self) -> DropModel:
        """What drop is to be expected of a loss."""
        return DropModel.of([(self.problem.loss(trial.policy), trial) for trial in self.tried])

    def best_first(self) -> list[tuple[str, Policy]]:
        """The policies tried, by name: those that keep the contract first, the best of them in front."""
        return [(self.name_of(trial), trial.policy) for trial in best_first(self.tried, self.contract)]

    def baselines(self) -> list[tuple[str, Policy]]:
        """Uniform int8, and fp32 where all layers can stay so."""
        whole = {
            name: next((choice for choice in row if choice.scheme == FP32), None)
            for name, row in self.problem.choices.items()
        }
        floats = {name: choice for name, choice in whole.items() if choice}
        given = [("int8", self.baseline.policy)]
        return [*given, ("fp32", floats)] if len(floats) == len(whole) else given

    def all(self) -> list[tuple[str, Policy]]:
        """All policies that may be emitted, each once."""
        return list(dict([*self.best_first(), *self.baselines()]).items())

    def name_of(self, trial: Trial) -> str:
        """A trial's name: its place in the order of trials."""
        return "int8" if trial is self.baseline else f"trial-{self.tried.index(trial)}"

    def plan(self, policy: Policy) -> Plan:
        """Write a policy as a plan, with why layers could not have more."""
        why = {
            name: "; ".join(f"no {scheme}: {reason}" for scheme, reason in space.refused)
            for name, space in self.spaces.items()
        }
        return self.origin.plan(self.problem, policy, self.network, why)

    def told(
        self,
        finalists: Sequence[Finalist],
        check: SpotCheck | None,
        model: str,
        strategy: str,
        seed: int,
        has_labels: bool,
        spent: tuple[Spent, ...],
        ablations: tuple[Ablation, ...] = (),
        transfers: tuple[Transfer, ...] = (),
    ) -> Searched:
        """Give the result: the last finalist, the front, and the report on all."""
        chosen = finalists[-1]
        plans = [
            RatedPlan(each.name, each.cost, each.drop, "final", each.name == "int8") for each in finalists
        ]
        plans += [
            RatedPlan(name, trial.cost, trial.measured.drop, "evaluated", trial is self.baseline)
            for trial in self.tried
            if (name := self.name_of(trial)) not in {each.name for each in finalists}
        ]
        drops = self.drops
        plans += [
            RatedPlan(name, each.cost, drops.drop(self.problem.loss(each.policy)))
            for name, each in self.front.items()
        ]
        report = SearchReport(
            model,
            self.origin.hardware,
            strategy,
            seed,
            self.contract,
            self.tried[0].measured.samples,
            has_labels,
            chosen.name,
            tuple(plans),
            self._layers(finalists),
            self._cells(),
            chosen.compiled.report.fallbacks,
            self._certificate(chosen),
            self._evaluations(strategy),
            spent,
            ablations,
            transfers,
            listing=to_json(chosen.compiled.plan, Plan),
            spot_check=check,
            tensors=chosen.tensors,
            unreachable=infeasibility(self.problem, limits_of(self.contract)) or "",
        )
        named = {name: self.plan(each.policy) for name, each in self.front.items()}
        return Searched(chosen.compiled, named, report)

    @cached_property
    def front(self) -> dict[str, Rated]:
        """Policies of which none takes less of the minimised quantity and loses less, by rising loss."""
        bounded: list[Quantity] = [name for name in self.contract.bounds() if name != "drop"]
        goal = bounded[0] if self.contract.minimize == "drop" else self.contract.minimize
        worth = max(LEAST_WORTH, 4 * (self.contract.max_drop or 0.0))
        least = solve(self.problem, "loss").value
        limit: Limits = {"loss": max(self.drops.loss(worth), least)} if self.drops.loss(worth) < inf else {}
        found = front(self.problem, (goal, "drop"), FRONT, limit)
        return {
            f"front-{number:02d}": self.trials.rated(each.policy)
            for number, each in enumerate(found, start=1)
        }

    def _layers(self, finalists: Sequence[Finalist]) -> tuple[SearchedLayer, ...]:
        """The layers of the last finalist beside those of uniform int8, as it was compiled if it was."""
        chosen, layers = finalists[-1], list[SearchedLayer]()
        baseline = next((each.carried for each in finalists if each.name == "int8"), self.baseline.policy)
        for layer in self.network.layers:
            planned = chosen.plan.layers[layer.name]
            first = next((name for name, group in self.problem.groups.items() if layer.name in group), None)
            if first is None:
                layers.append(SearchedLayer(layer.name, planned.scheme, Cost(), reason=planned.reason))
                continue
            choice, before = chosen.carried[first], baseline[first]
            tied = "" if first == layer.name else first
            layers.append(
                SearchedLayer(
                    layer.name,
                    planned.scheme,
                    Cost() if tied else choice.cost,
                    None if tied else before.cost,
                    None if tied else choice.loss,
                    tied,
                    "\n".join(str(mapping) for mapping in planned.mappings),
                    planned.reason,
                )
            )
        return tuple(layers)

    def _cells(self) -> tuple[SearchCell, ...]:
        cells: list[SearchCell] = []
        for name in self.losses.known:
            best = {choice.scheme: choice.cost for choice in reversed(self.problem.choices.get(name, ()))}
            cells += [
                SearchCell(name, scheme, loss, best[scheme])
                if scheme in best
                else SearchCell(name, scheme, reason=UNMAPPED)
                for scheme, loss in self.losses.known[name].items()
            ]
            refused = {**dict(self.spaces[name].refused), **self.losses.refused[name]}
            cells += [SearchCell(name, scheme, reason=reason) for scheme, reason in refused.items()]
        return tuple(cells)

    def _certificate(self, chosen: Finalist) -> Certificate | None:
        """How far the chosen policy is from the best one that the model allows as much loss."""
        figure = modelled(self.contract.minimize)
        if figure == "loss":
            return None
        loss = self.problem.loss(chosen.policy)
        limits = reachable(self.problem, limits_of(self.contract))
        limits["loss"] = loss
        found = find(self.problem, figure, limits)
        if found is None:  # the baseline was chosen, which keeps no limit
            return None
        value = figure_of(self.problem.cost(chosen.policy), loss, figure)
        return Certificate(self.contract.minimize, value, min(found.bound, value), self.problem.size)

    def _evaluations(self, strategy: str) -> tuple[Evaluation, ...]:
        at, told = 0.0, []
        for trial in self.tried:
            seconds = self.trials.seconds(trial)
            at += seconds
            name, measured = self.name_of(trial), trial.measured
            told.append(
                Evaluation(
                    name,
                    "baseline" if trial is self.baseline else strategy,
                    at,
                    seconds,
                    trial.cost,
                    measured.drop,
                    self.problem.loss(trial.policy),
                    measured.loss,
                    measured.samples,
                )
            )
        return tuple(told)
