"""Compression and mappings chosen together, one after the other, one scheme for all, and mappings alone.

All have the same schemes, mapper, losses, samples and number of trials. Accuracies are compared on held-out
samples: `p` is of McNemar's exact test between what was chosen together and one after the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rows import Row
from searching import Judged, Searching, best, mapped_only, of_one_scheme

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.report import Ablation
from tersor.cost import Cost
from tersor.scheduler.contract import Contract
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import find
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.strategies.sequential import Sequential
from tersor.scheduler.strategies.uniform import Uniform
from tersor.scheduler.trial import Strategy
from tersor.scheme import INT8

TRIALS = 8
ENOUGH = 1.3  # times the EDP of what was chosen together, on most
SAVED = 40.0  # % of the energy of uniform int8
LEAST_P = 0.05
GAP = 1.0  # %


@dataclass(frozen=True)
class Found:
    """What a way to choose came to."""

    name: str
    policy: Policy
    cost: Cost
    tried: float  # points lost on the samples of the search
    evaluations: int
    judged: Judged

    @property
    def edp(self) -> float:
        """Energy times time, in pJ s."""
        return self.cost.energy * self.cost.seconds

    @property
    def ablation(self) -> Ablation:
        """As reports have it."""
        return Ablation(self.name, self.cost, self.judged.lost, self.evaluations)


def compared(
    searching: Searching, machine: Accelerator, contract: Contract, trials: int = TRIALS
) -> tuple[Problem, dict[str, Found]]:
    """Search in each way; by name."""
    problem = searching.problem(machine)
    found: dict[str, Found] = {}

    def search(way: Strategy) -> None:
        found[way.name] = _searched(searching, machine, contract, problem, way, trials)

    def measure(name: str, policy: Policy) -> None:
        trial = searching.trials(machine, problem).measure(policy)
        judged = searching.judged(problem.schemes(policy))
        found[name] = Found(name, policy, trial.cost, trial.measured.drop, 1, judged)

    search(Exact(name="joint"))
    search(Sequential(searching.network))
    measure("int8", of_one_scheme(problem, INT8, contract))
    measure("mapping only", mapped_only(problem, contract))
    search(Uniform())
    return problem, found


def joint(
    searchings: Iterable[Searching], machines: Iterable[str], contract: Contract, trials: int = TRIALS
) -> list[Row]:
    """All networks on all machines, then the goals."""
    rows: list[Row] = []
    ratios: list[float] = []
    for searching in searchings:
        for name in machines:
            machine = searching.machine(name)
            problem, found = compared(searching, machine, contract, trials)
            rows += _rows(searching.subject.name, name, problem, found)
            ratios.append(found["sequential"].edp / found["joint"].edp)
    most = 100 * sum(ratio >= ENOUGH for ratio in ratios) / len(ratios)
    return [
        *rows,
        Row("search", "joint", "all", "joint", f"% {ENOUGH:g} times better than sequential", most, 51, ">="),
        Row("search", "joint", "all", "joint", "least sequential/joint EDP", min(ratios), 1.0, ">="),
    ]


def _searched(
    searching: Searching,
    machine: Accelerator,
    contract: Contract,
    problem: Problem,
    way: Strategy,
    most: int,
) -> Found:
    trials = searching.run(way, contract, machine, problem, most)
    chosen = best(trials, contract)
    judged = searching.judged(problem.schemes(chosen.policy))
    return Found(way.name, chosen.policy, chosen.cost, chosen.measured.drop, len(trials), judged)


def _rows(network: str, machine: str, problem: Problem, found: dict[str, Found]) -> list[Row]:
    rows: list[Row] = []
    for each in found.values():
        figures = {
            "ms": 1e3 * each.cost.seconds,
            "uJ": each.cost.energy / 1e6,
            "uJ ms": each.edp / 1e3,
            "points lost": each.tried,
            "held out": each.judged.lost,
            "p": each.judged.p(found["joint"].judged),
            "evaluations": each.evaluations,
        }
        rows += [
            Row("search", "joint", network, f"{machine}, {each.name}", *figure) for figure in figures.items()
        ]
    both, after, int8 = found["joint"], found["sequential"], found["int8"]
    saved = 100 * (1 - both.cost.energy / int8.cost.energy)

    def row(metric: str, value: float, goal: float, direction: str) -> Row:
        return Row("search", "joint", network, f"{machine}, joint", metric, value, goal, direction)  # type: ignore[arg-type]

    rows.append(row("sequential/joint EDP", after.edp / both.edp, ENOUGH, ">="))
    rows.append(row("p of equal accuracy", after.judged.p(both.judged), LEAST_P, ">="))
    rows.append(row("% of int8's energy saved", saved, SAVED, ">="))
    rows.append(row("gap_%", 100 * _gap(problem, both.policy), GAP, "<="))
    return rows


def _gap(problem: Problem, policy: Policy) -> float:
    """How far a policy is at most from the least EDP with as much loss, by the additive model."""
    least = find(problem, "edp", {"loss": problem.loss(policy)})
    assert least is not None  # the policy itself keeps the limit
    cost = problem.cost(policy)
    value = cost.energy * cost.seconds
    return (value - min(least.bound, value)) / value
