"""The options of a contract, and what their text means."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from tersor.autoscheduler.machines import check_contract
from tersor.autoscheduler.page.amounts import amount
from tersor.autoscheduler.report import SearchReport
from tersor.autoscheduler.settings import Settings
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.recipe import Recipe
from tersor.scheduler.contract import Contract, Quantity
from tersor.scheduler.costs import EFFORT
from tersor.scheduler.strategies.evolution import Evolution
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.strategies.random_search import RandomSearch
from tersor.scheduler.trial import Strategy
from tersor.targets.accelerator.offload.offload import is_accelerator
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
Search = Annotated[
    StrategyName | None, typer.Option(help="How plans to be tried are found (default: exact).")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Of searches by chance (default: 0).")]
Effort = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Mappings tried of each shape under a scheme, on an accelerator (default: {EFFORT}).",
    ),
]

Ablations = Annotated[
    bool | None,
    typer.Option(
        "--ablations",
        help="Say in the report, too, what searches find that may choose less: mappings alone, one scheme "
        "for all, compression before mappings.",
    ),
]
Also = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Search for this accelerator, too, and say in the report what each plan takes on each. "
        "Repeatable.",
    ),
]


def contract_of(
    max_drop: float | None,
    max_latency: str | None,
    max_energy: str | None,
    max_size: str | None,
    minimize: Quantity | None,
    budget: str | None,
    accelerator: Hardware | None,
) -> Contract | None:
    """Read a contract; None if nothing of one is given.

    Raises UserError naming the option, and for a contract that the machine cannot have.
    """
    if all(each is None for each in (max_drop, max_latency, max_energy, max_size, minimize, budget)):
        return None
    try:
        contract = Contract(
            minimize or ("latency" if accelerator is None else "edp"),
            max_drop,
            _read("--max-latency", max_latency, parse_duration),
            _read("--max-energy", max_energy, parse_energy),
            _read("--max-size", max_size, parse_bytes),
            _read("--budget", budget, parse_duration),
        )
    except ValueError as error:
        raise UserError(f"the contract: {error}") from error
    check_contract(contract, accelerator)
    return contract


def settings_of(
    strategy: StrategyName | None,
    seed: int | None,
    effort: int | None,
    recipe: Recipe | None,
    calibration_samples: int,
    journal: Path,
    ablations: bool | None = None,
    also: Sequence[Path] | None = None,
    accelerator: Hardware | None = None,
) -> Settings:
    """Give the settings of a search, by default its own. Raises UserError for what cannot be compared."""
    settings = Settings(
        _strategy(strategy or "exact", seed or 0),
        recipe,
        calibration_samples,
        journal=journal,
        seed=seed or 0,
        ablations=bool(ablations),
        also=_others(also or (), accelerator),
    )
    if effort is None:
        return settings
    return replace(settings, effort=effort, last_effort=effort * settings.last_effort // settings.effort)


def _strategy(name: StrategyName, seed: int) -> Strategy:
    match name:
        case "exact":
            return Exact()
        case "evolution":
            return Evolution(seed)
        case "random":
            return RandomSearch(seed)


def _others(machines: Sequence[Path], own: Hardware | None) -> tuple[Hardware, ...]:
    if machines and own is None:
        raise UserError("--also compares accelerators: say with --hardware which one the model is for")
    found = [Hardware.load(machine) for machine in machines]
    names = [each.name for each in (own, *found) if each]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--also: two machines are named {min(twice)!r}, give each a name of its own")
    if plain := [str(path) for path, each in zip(machines, found, strict=True) if not is_accelerator(each)]:
        raise UserError(f"--also: {plain[0]} describes no accelerator, it has no [datapath]: add one")
    return tuple(found)


def accelerator_of(machine: Path | None) -> Hardware | None:
    """Read an accelerator's description. Raises UserError for one of a CPU."""
    if machine is None:
        return None
    hardware = Hardware.load(machine)
    if not is_accelerator(hardware):
        raise UserError(
            f"{machine} describes no accelerator, it has no [datapath]: add one, or leave out --hardware to "
            "compile for this CPU"
        )
    return hardware


def check_searched(**options: object) -> None:
    """Refuse options that are of a search alone where there is none. Raises UserError naming the first."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name} is of a search: give a contract too, as --max-drop 0.5")


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
    if report.unreachable:
        said.append(report.unreachable)
    plans = [plan.name for plan in report.plans if plan.name.startswith("front")]
    said.append(
        f"{len(plans)} other plans, for --plan: {plans[0]}.json to {plans[-1]}.json; all of it: report.html"
    )
    return said


def _read(option: str, text: str | None, parse: Callable[[str], Value]) -> Value | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error
