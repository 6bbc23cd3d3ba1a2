"""Strategies beside each other: the same problem, samples and number of trials."""

from collections.abc import Sequence

from joint import TRIALS
from rows import Row
from searching import Searching

from tersor.autoscheduler.trials import best_first
from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.hypervolume import hypervolume
from tersor.scheduler.strategies.evolution import Evolution
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.strategies.random_search import RandomSearch
from tersor.scheduler.trial import Strategy, Trial

SEEDS = range(3)
WORST = 5.0  # points, above which a plan is worth nothing


def strategies(
    searching: Searching, machine_name: str, contract: Contract, trials: int = TRIALS
) -> list[Row]:
    """What each strategy reaches, and the volume that its trials dominate.

    The volume is of what is made least over what uniform int8 takes, from 0 to 1, and points lost over
    `WORST`, from 0 to 1.
    """
    machine = searching.machine(machine_name)
    comparison = searching.comparison(contract, trials)
    problem = comparison.problem(machine)
    chance: list[Strategy] = [each(seed) for seed in SEEDS for each in (RandomSearch, Evolution)]
    values: dict[str, float] = {}
    volumes: dict[str, float] = {}
    rows: list[Row] = []
    for way in [Exact(), *chance]:
        tried = comparison.search(machine, problem, way)
        seed = getattr(way, "seed", None)
        name = way.name if seed is None else f"{way.name} {seed}"
        baseline = _value(tried[0], contract)
        values[name] = _value(best_first(tried, contract)[0], contract) / baseline
        volumes[name] = _volume(tried, contract, baseline)
        case = (searching.subject.name, f"{machine_name}, {name}")
        rows.append(Row("search", "strategies", *case, f"{contract.minimize}/int8", values[name]))
        rows.append(Row("search", "strategies", *case, "hypervolume", volumes[name]))
    rest = [name for name in values if name != "exact"]
    ahead = min(values[name] for name in rest) / values["exact"]
    wider = volumes["exact"] / max(volumes[name] for name in rest)
    case = (searching.subject.name, f"{machine_name}, exact")
    return [
        *rows,
        Row("search", "strategies", *case, f"best other/exact {contract.minimize}", ahead, 1.0, ">="),
        Row("search", "strategies", *case, "exact/best other hypervolume", wider, 1.0, ">="),
    ]


def _value(trial: Trial, contract: Contract) -> float:
    return quantity_of(trial.cost, trial.measured.drop, contract.minimize)


def _volume(trials: Sequence[Trial], contract: Contract, baseline: float) -> float:
    points = [(_value(each, contract) / baseline, max(each.measured.drop, 0.0) / WORST) for each in trials]
    return hypervolume(points, (1.0, 1.0))
