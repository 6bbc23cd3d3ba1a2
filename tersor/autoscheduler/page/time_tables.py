"""Time tables: what was tried and when, and where the search's time went."""

from tersor.autoscheduler.page.amounts import (
    NAMES,
    amount,
    count_of,
    duration,
    known_amount,
    name_of,
    percent,
    ratio_decibels,
)
from tersor.autoscheduler.page.layer_table import COLOURS
from tersor.autoscheduler.page.markup import Cell, Markup, bar, element, paragraph, table
from tersor.autoscheduler.report import Evaluation, SearchReport
from tersor.scheduler.contract import quantity_of


def evaluation_table(report: SearchReport) -> Markup:
    """All evaluations in order, with when each ran, and how near its predicted noise was."""
    if not report.evaluations:
        return Markup()
    end = max(report.seconds, *(each.at for each in report.evaluations))
    rows = [
        (_kind(report, each), _row(report, each, turn, end))
        for turn, each in enumerate(report.evaluations, 1)
    ]
    goal = report.contract.minimize
    shown = [] if goal == "drop" else [NAMES[goal]]
    names = (
        "",
        "plan",
        "proposed by",
        "ran",
        "took",
        *shown,
        name_of("drop", report.has_labels),
        "signal to noise, predicted",
        "measured",
        "contract",
    )
    says = f"{count_of(len(report.evaluations), 'plan')} tried on {count_of(report.samples, 'sample')}."
    return Markup.of(paragraph(says), table(names, rows, "evaluations"))  # fmt: skip


def spent_table(report: SearchReport) -> Markup:
    """The phases of the search, one after the other, beside the budget."""
    if not report.spent:
        return Markup()
    total, budget = report.seconds, report.contract.budget
    whole = max(total, budget or 0.0) or 1.0
    parts = [
        element("span", class_=f"scheme{place % COLOURS}", title=f"{each.phase}: {duration(each.seconds)}",
                style=f"width:{100 * each.seconds / whole:.2f}%")
        for place, each in enumerate(report.spent)
    ]  # fmt: skip
    rows = [
        ("", (
            Cell(Markup.of(element("i", class_=f"swatch scheme{place % COLOURS}"), each.phase)),
            Cell(duration(each.seconds), each.seconds),
            Cell(percent(each.seconds / (total or 1.0)), each.seconds),
        ))
        for place, each in enumerate(report.spent)
    ]  # fmt: skip
    says = f"{duration(total)} in all"
    if budget is not None:
        says += f", {percent(total / budget)} of the budget of {duration(budget)}"
    return Markup.of(
        paragraph(f"{says}."),
        element("div", *parts, class_="stack", role="img", aria_label=says),
        table(("phase", "time", "share"), rows, "narrow"),
    )


def _kind(report: SearchReport, each: Evaluation) -> str:
    return "chosen" if each.name == report.chosen else ""


def _row(report: SearchReport, each: Evaluation, turn: int, end: float) -> list[Cell | str]:
    broken = report.contract.broken(each.cost, each.drop)
    kept = (
        "kept" if not broken else f"breaks {', '.join(name_of(each, report.has_labels) for each in broken)}"
    )
    goal, begin = report.contract.minimize, max(each.at - each.seconds, 0.0)
    before = element("span", class_="before", style=f"width:{100 * begin / (end or 1.0):.1f}%")
    when = Markup.of(duration(begin), " ", bar(0.0, before, _slot(each.seconds / (end or 1.0))))
    value = quantity_of(each.cost, each.drop, goal)
    return [
        Cell(str(turn), turn),
        each.name,
        each.strategy,
        Cell(when, begin, "barred"),
        Cell(duration(each.seconds), each.seconds),
        *([] if goal == "drop" else [Cell(known_amount(goal, value), value)]),
        Cell(amount("drop", each.drop), each.drop),
        Cell(ratio_decibels(each.predicted), each.predicted),
        Cell(ratio_decibels(each.loss), each.loss),
        Cell(kept, kind="bad" if broken else "good"),
    ]


def _slot(share: float) -> Markup:
    return element("span", class_="slot", style=f"width:{100 * min(share, 1.0):.1f}%")
