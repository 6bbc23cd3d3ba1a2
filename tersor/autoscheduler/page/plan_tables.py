"""Plan tables: whole plans beside one another: the front and the baselines, the ablations, other machines."""

from collections.abc import Sequence

from tersor.autoscheduler.page.amounts import NAMES, amount, compared, count_of, known_amount, name_of
from tersor.autoscheduler.page.markup import Cell, Markup, bar, element, paragraph, table
from tersor.autoscheduler.report import Ablation, Known, RatedPlan, SearchReport, Transfer
from tersor.cost import Cost
from tersor.scheduler.contract import Quantity, quantity_of

COSTS: tuple[Quantity, ...] = ("latency", "energy", "edp", "size")
KNOWN: dict[Known, str] = {
    "predicted": "predicted",
    "evaluated": "measured on the float module",
    "final": "measured on the integer library",
}


def plans_table(report: SearchReport) -> Markup:
    """All plans by rising drop, with how each drop is known and what of the contract each breaks."""
    quantities = given(report, [plan.cost for plan in report.plans])
    plans = sorted(report.plans, key=lambda plan: (plan.drop, plan.of(report.contract.minimize)))
    rows = [(_kind(report, plan), _plan_row(report, plan, quantities)) for plan in plans]
    names = (
        "plan",
        *(NAMES[each] for each in quantities),
        name_of("drop", report.has_labels),
        "how it is known",
        "contract",
    )
    return table(names, rows)


def given(report: SearchReport, costs: Sequence[Cost]) -> list[Quantity]:
    """The costs that are known of any, the product of two only where it is minimised."""
    asked = report.contract.minimize
    known: list[Quantity] = [each for each in COSTS if any(quantity_of(cost, 0.0, each) for cost in costs)]
    return [each for each in known if each != "edp" or asked == "edp"]


def ablation_table(report: SearchReport) -> Markup:
    """What each way of searching found, and the minimised quantity as bars, beside the last, which is all."""
    if not report.ablations:
        return Markup()
    goal = report.contract.minimize
    known = given(report, [each.cost for each in report.ablations])
    others: list[Quantity] = [each for each in (*known, "drop") if each != goal]
    best = report.ablations[-1]
    most = max(quantity_of(each.cost, each.drop, goal) for each in report.ablations)
    rows = [
        ("chosen" if each is best else "", _ablation_row(each, best, goal, most, others))
        for each in report.ablations
    ]
    named = {each: name_of(each, report.has_labels) for each in (goal, *others)}
    return table(("search over", named[goal], "", *(named[each] for each in others), "evaluations"), rows)


def transfer_table(report: SearchReport) -> Markup:
    """The minimised quantity of plans by the machine that they were searched for and the one they run on."""
    if not report.transfers:
        return Markup()
    found = {(each.searched_for, each.run_on): each for each in report.transfers}
    across = list(dict.fromkeys(each.run_on for each in report.transfers))
    down = list(dict.fromkeys(each.searched_for for each in report.transfers))
    goal = report.contract.minimize
    rows = [("", (one, *(_transfer_cell(found, one, other, goal) for other in across))) for one in down]
    return Markup.of(
        paragraph(
            f"{name_of(goal, report.has_labels).capitalize()} of plans that were searched for one machine "
            "and run on another. A widened layer has a format that the machine lacks, and runs in the next "
            "wider one."
        ),
        table(("searched for", *(f"on {name}" for name in across)), rows, "matrix"),
    )  # fmt: skip


def _kind(report: SearchReport, plan: RatedPlan) -> str:
    return "chosen" if plan.name == report.chosen else "baseline" if plan.baseline else ""


def _plan_row(report: SearchReport, plan: RatedPlan, quantities: Sequence[Quantity]) -> list[Cell | str]:
    broken = report.contract.broken(plan.cost, plan.drop)
    kept = (
        "kept" if not broken else f"breaks {', '.join(name_of(each, report.has_labels) for each in broken)}"
    )
    mark = {"chosen": "★ ", "baseline": "◆ "}.get(_kind(report, plan), "")
    return [
        f"{mark}{plan.name}",
        *(_amount_cell(each, plan.of(each)) for each in quantities),
        Cell(amount("drop", plan.drop), plan.drop),
        KNOWN[plan.known],
        Cell(kept, kind="bad" if broken else "good"),
    ]


def _ablation_row(
    each: Ablation, best: Ablation, goal: Quantity, most: float, others: Sequence[Quantity]
) -> list[Cell | str]:
    value = quantity_of(each.cost, each.drop, goal)
    drawn = bar(value / most if most > 0 else 0.0, colour="front")
    return [
        each.name,
        Cell(Markup.of(known_amount(goal, value), " ", drawn), value, "barred"),
        "" if each is best else compared(value, quantity_of(best.cost, best.drop, goal), best.name),
        *(_amount_cell(other, quantity_of(each.cost, each.drop, other)) for other in others),
        Cell(str(each.evaluations), each.evaluations),
    ]


def _amount_cell(quantity: Quantity, value: float) -> Cell:
    return Cell(known_amount(quantity, value), value)


def _transfer_cell(
    found: dict[tuple[str, str], Transfer], one: str, other: str, goal: Quantity
) -> Cell | str:
    each, own = found.get((one, other)), found.get((other, other))
    if each is None:
        return "–"
    value = quantity_of(each.cost, each.drop, goal)
    words = []
    if own and one != other:
        words.append(_beside(value, quantity_of(own.cost, own.drop, goal)))
    words += [] if goal == "drop" else [amount("drop", each.drop)]
    words += [f"{count_of(each.widened, 'layer')} widened"] if each.widened else []
    small = (element("small", word) for word in words if word)
    return Cell(Markup.of(known_amount(goal, value), *small), value, "own" if one == other else "other")


def _beside(value: float, own: float) -> str:
    return f"{value / own:.2f} times its own plan's" if own else ""
