"""Whole searches, from a model to a compiled library: how long they take, and what the result is worth."""

from dataclasses import replace
from os import times
from time import perf_counter

from rows import Row
from searching import MACHINES
from subjects import Subject

from tersor.autoscheduler.driver import search
from tersor.autoscheduler.result import Searched
from tersor.autoscheduler.settings import Settings
from tersor.hardware import Hardware
from tersor.scheduler.contract import Contract

MINUTES = 5.0
VALIDATIONS = 10
CORES = 2


def time(subject: Subject, machine: str, contract: Contract) -> list[Row]:
    """The seconds of a search for an accelerator, by the clock and by the processor, with an empty journal.

    On a machine that others use too, what `CORES` cores have to compute says more than the clock.
    """
    model = replace(subject.model, accelerator=Hardware.load(MACHINES / f"{machine}.toml"))
    start, before = perf_counter(), _processor_seconds()
    found = _search(replace(subject, model=model), contract)
    wall, worked = perf_counter() - start, _processor_seconds() - before
    case = ("search", "time", subject.name, machine)
    choice, report = found.report.choice, found.report
    finals = sum(plan.known == "final" for plan in report.plans)
    rows = [Row(*case, spent.phase, spent.seconds) for spent in report.spent]
    return [
        *rows,
        Row(*case, "wall min", wall / 60),
        Row(*case, "points lost", choice.drop),
        Row(*case, "EDP/int8", choice.of("edp") / report.plans[1 if choice.baseline else 0].of("edp")),
        Row(*case, f"CPU min / {CORES}", worked / 60 / CORES, MINUTES, "<="),
        Row(*case, "full validations", len(report.evaluations) + finals, VALIDATIONS, "<="),
    ]


def cpu(subject: Subject, contract: Contract) -> list[Row]:
    """The plan for this CPU beside uniform int8, both compiled and timed on it."""
    found = _search(subject, contract)
    report = found.report
    finals = {plan.name: plan for plan in report.plans if plan.known == "final"}
    case = ("search", "cpu", subject.name)
    rows: list[Row] = []
    for name, plan in finals.items():
        shown = f"{name}, chosen" if name == report.chosen else name
        rows.append(Row(*case, shown, "ms", 1e3 * plan.cost.seconds))
        rows.append(Row(*case, shown, "points lost", plan.drop))
        rows.append(Row(*case, shown, "KB", plan.cost.size / 1e3))
    choice = report.choice
    int8 = finals.get("int8", choice)
    ratio = int8.cost.seconds / choice.cost.seconds
    return [*rows, Row(*case, choice.name, "times as fast as int8", ratio, 1.0, ">=")]


def _search(subject: Subject, contract: Contract) -> Searched:
    return search(
        subject.model,
        subject.calibration,
        contract,
        Settings(calibration_samples=len(subject.calibration)),
        evaluation=subject.tried.samples,
        labels=subject.tried.labels,
    )


def _processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    spent = times()
    return spent.user + spent.system + spent.children_user + spent.children_system
