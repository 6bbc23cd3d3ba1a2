"""Compression and mappings chosen together, one after the other, one scheme for all, and mappings alone.

All have the same mapper, losses, samples and number of trials. What compresses first does not know the
machine, which runs formats that it lacks in wider ones; "its formats" does know what it has. Accuracies are
compared on held-out samples: `p` is of McNemar's exact test between what was chosen together and one after
the other.

What decides in measured drops is chance, too: a few samples of a thousand. "at its loss" is without it: what
takes the fewest bit-operations and has by the model no more loss than what was chosen together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rows import Row
from searching import Judged, Searching

from tersor.autoscheduler.accelerator import Accelerator
from tersor.autoscheduler.comparison import Chosen
from tersor.cost import Cost
from tersor.scheduler.contract import Contract
from tersor.scheduler.search import find
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.strategies.sequential import fewest_operations

TRIALS = 8
SEQUENTIAL = ("sequential", "sequential, its formats")
ENOUGH = 1.3  # times the EDP of what was chosen together, on most
SAVED = 40.0  # % of the energy of uniform int8
LEAST_P = 0.05
GAP = 1.0  # %


@dataclass(frozen=True)
class Found:
    """What a way to choose came to, and what that does on held-out samples."""

    chosen: Chosen
    judged: Judged

    @property
    def cost(self) -> Cost:
        """What the best that it found takes."""
        return self.chosen.best.cost

    @property
    def edp(self) -> float:
        """Energy times time, in pJ s."""
        return self.cost.energy * self.cost.seconds


def compared(
    searching: Searching, machine: Accelerator, contract: Contract, trials: int = TRIALS
) -> dict[str, Found]:
    """Search in each way; by name."""
    comparison = searching.comparison(contract, trials)
    problem = comparison.problem(machine)
    together = comparison.chosen(machine, problem, comparison.search(machine, problem, Exact()))
    ways = {"joint": together, **dict(comparison.ways(machine, problem))}
    return {
        name: Found(chosen, searching.judged(problem.schemes(chosen.best.policy)))
        for name, chosen in ways.items()
    }


def joint(
    searchings: Iterable[Searching], machines: Iterable[str], contract: Contract, trials: int = TRIALS
) -> list[Row]:
    """All networks on all machines, then the goals."""
    rows: list[Row] = []
    ratios: list[float] = []
    least: list[float] = []
    for searching in searchings:
        for name in machines:
            machine = searching.machine(name)
            found = compared(searching, machine, contract, trials)
            rows += _rows(searching, name, found)
            ratios.append(found["sequential"].edp / found["joint"].edp)
            least += [found[way].edp / found["joint"].edp for way in SEQUENTIAL]
    most = 100 * sum(ratio >= ENOUGH for ratio in ratios) / len(ratios)
    return [
        *rows,
        Row("search", "joint", "all", "joint", f"% {ENOUGH:g} times better than sequential", most, 51, ">="),
        Row("search", "joint", "all", "joint", "least sequential/joint EDP", min(least), 1.0, ">="),
    ]


def _rows(searching: Searching, machine: str, found: dict[str, Found]) -> list[Row]:
    rows: list[Row] = []
    network = searching.subject.name
    for name, each in found.items():
        figures = {
            "ms": 1e3 * each.cost.seconds,
            "uJ": each.cost.energy / 1e6,
            "uJ ms": each.edp / 1e3,
            "points lost": each.chosen.best.measured.drop,
            "held out": each.judged.lost,
            "p": each.judged.p(found["joint"].judged),
            "evaluations": each.chosen.evaluations,
        }
        rows += [Row("search", "joint", network, f"{machine}, {name}", *figure) for figure in figures.items()]
    both, int8 = found["joint"], found["int8"]
    saved = 100 * (1 - both.cost.energy / int8.cost.energy)

    def row(metric: str, value: float, goal: float, direction: str) -> Row:
        return Row("search", "joint", network, f"{machine}, joint", metric, value, goal, direction)  # type: ignore[arg-type]

    for way, goal in zip(SEQUENTIAL, (ENOUGH, 1.0), strict=True):
        rows.append(row(f"{way}/joint EDP", found[way].edp / both.edp, goal, ">="))
        rows.append(row(f"{way}: p of equal accuracy", found[way].judged.p(both.judged), LEAST_P, ">="))
        at_its_loss = _at_its_loss(searching, both.chosen, found[way].chosen)
        rows.append(row(f"{way} at its loss/joint EDP", at_its_loss / both.edp, goal, ">="))
    rows.append(row("% of int8's energy saved", saved, SAVED, ">="))
    rows.append(row("gap_%", 100 * _gap(both.chosen), GAP, "<="))
    return rows


def _at_its_loss(searching: Searching, together: Chosen, sequential: Chosen) -> float:
    """The EDP of the fewest bit-operations with as much loss by the model as what was chosen together."""
    machine, problem = sequential.machine, sequential.problem
    loss = together.problem.loss(together.best.policy)
    policy = fewest_operations(problem, searching.network, "edp", loss)
    cost = machine.rated(searching.network, problem, policy).cost
    return cost.energy * cost.seconds


def _gap(chosen: Chosen) -> float:
    """How far a policy is at most from the least EDP with as much loss, by the additive model."""
    problem, policy = chosen.problem, chosen.best.policy
    least = find(problem, "edp", {"loss": problem.loss(policy)})
    assert least is not None  # the policy itself keeps the limit
    cost = problem.cost(policy)
    value = cost.energy * cost.seconds
    return (value - min(least.bound, value)) / value
