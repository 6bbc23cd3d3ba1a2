"""The options of a contract, and what their text means."""

import time
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import typer

from tersor.autoscheduler.page.amounts import amount
from tersor.autoscheduler.report import SearchReport
from tersor.error import UserError
from tersor.scheduler.contract import Contract, Quantity
from tersor.scheduler.strategies.evolution import Evolution
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.strategies.random_search import RandomSearch
from tersor.scheduler.trial import Strategy
from tersor.units import parse_bytes, parse_duration, parse_energy

Value = TypeVar("Value")
StrategyName = Literal["exact", "evolution", "random"]

MaxDrop = Annotated[
    float | None,
    typer.Option(metavar="POINTS", help="Search for a plan that loses at most so much accuracy."),
]
MaxLatency = Annotated[
    str | None, typer.Option(metavar="TIME", help="Search for a plan that takes no longer: 3ms, 250us.")
]
MaxEnergy = Annotated[
    str | None, typer.Option(metavar="ENERGY", help="Search for a plan that takes no more: 2mJ, 150uJ.")
]
MaxSize = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Search for a plan whose constants take no more: 512KiB.")
]
Minimize = Annotated[
    Quantity | None,
    typer.Option(help="What the search makes least (default: latency, on an accelerator edp)."),
]
TimeBudget = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long to search and compile: 5min, 90s.")
]
Search = Annotated[StrategyName, typer.Option(help="How plans to be tried are found.")]
Seed = Annotated[int, typer.Option(min=0, help="Of searches by chance.")]


def contract_of(
    max_drop: float | None,
    max_latency: str | None,
    max_energy: str | None,
    max_size: str | None,
    minimize: Quantity | None,
    budget: str | None,
    on_accelerator: bool,
) -> Contract | None:
    """Read a contract; None if nothing of one is given. Raises UserError naming the option."""
    if all(each is None for each in (max_drop, max_latency, max_energy, max_size, minimize, budget)):
        return None
    try:
        return Contract(
            minimize or ("edp" if on_accelerator else "latency"),
            max_drop,
            _read("--max-latency", max_latency, parse_duration),
            _read("--max-energy", max_energy, parse_energy),
            _read("--max-size", max_size, parse_bytes),
            _read("--budget", budget, parse_duration),
        )
    except ValueError as error:
        raise UserError(f"the contract: {error}") from error


def strategy_of(name: StrategyName, seed: int) -> Strategy:
    """Give a strategy by its name."""
    match name:
        case "exact":
            return Exact()
        case "evolution":
            return Evolution(seed)
        case "random":
            return RandomSearch(seed)


def check_alone(**others: object) -> None:
    """Refuse options that choose the schemes themselves. Raises UserError naming the first."""
    for name, value in others.items():
        if value is not None:
            option = name.replace("_", "-")
            raise UserError(f"--{option} says what becomes of layers, a contract searches for that: give one")


def found_words(report: SearchReport) -> list[str]:
    """Say which plan was chosen, and what of the contract it keeps."""
    choice = report.choice
    taken = [
        amount(quantity, choice.of(quantity))
        for quantity in ("latency", "energy", "size")
        if choice.of(quantity)
    ]
    said = [f"{report.chosen}: {', '.join(taken)}, {amount('drop', choice.drop)} lost"]
    for use in report.bounds:
        if use.excess is not None:
            limit = amount(use.quantity, use.limit)
            said.append(
                f"no plan was found that keeps the {use.quantity} at or below {limit}: this is the closest"
            )
    plans = [plan.name for plan in report.plans if plan.name.startswith("front")]
    said.append(
        f"{len(plans)} other plans, for --plan: {plans[0]}.json to {plans[-1]}.json; all of it: report.html"
    )
    return said


def process_began() -> float:
    """When this process began at the latest, by `time.monotonic`: it has computed since then."""
    return time.monotonic() - time.process_time()


def _read(option: str, text: str | None, parse: Callable[[str], Value]) -> Value | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error
