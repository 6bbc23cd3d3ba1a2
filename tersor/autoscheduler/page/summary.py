"""Summary: what was asked for, what was found, and what is proved of it: the first part of the page."""

from tersor.autoscheduler.page.amounts import NAMES, amount, compared, many, name_of, percent
from tersor.autoscheduler.page.markup import Cell, Markup, bar, element, paragraph, table
from tersor.autoscheduler.report import BoundUse, Certificate, RatedPlan, SearchReport
from tersor.scheduler.contract import Quantity

SHOWN: tuple[Quantity, ...] = ("latency", "energy", "edp", "size", "drop")


def verdict(report: SearchReport) -> Markup:
    """Say in a sentence whether the contract is kept, and which bound stands in the way."""
    what = f"Least {name_of(report.contract.minimize, report.has_labels)}"
    if not report.bounds:
        return paragraph(f"{what}; nothing was bounded.", class_="verdict kept")
    worst = next(each for each in report.bounds if each.quantity == report.binding)
    bound = name_of(worst.quantity, report.has_labels)
    if report.kept:
        says = f"Every bound is kept. {what}; the tightest bound is that on {bound}, "
        return paragraph(says, f"{percent(worst.share)} used.", class_="verdict kept")
    says = (
        f"No plan that was found keeps the contract; this is the closest. It breaks the bound on "
        f"{bound}: {amount(worst.quantity, worst.taken)} instead of at most "
        f"{amount(worst.quantity, worst.limit)}."
    )
    return paragraph(says, class_="verdict broken")


def figures(report: SearchReport) -> Markup:
    """The chosen plan's quantities, each beside the first baseline's, or beside fp32's if it is that one."""
    choice, baseline = report.choice, _beside(report)
    tiles = []
    for quantity in SHOWN:
        value = choice.of(quantity)
        if not value and quantity != "drop":
            continue
        beside = ""
        if baseline:
            if quantity == "drop":
                beside = f"{baseline.name}: {amount('drop', baseline.drop)}"
            else:
                beside = compared(value, baseline.of(quantity), baseline.name)
        is_goal = quantity == report.contract.minimize
        tiles.append(
            element(
                "div",
                element(
                    "dt",
                    name_of(quantity, report.has_labels),
                    *([element("b", "minimised")] if is_goal else []),
                ),
                element("dd", amount(quantity, value)),
                element("dd", beside, class_="beside"),
                class_="tile goal" if is_goal else "tile",
            )
        )
    return element("dl", *tiles, class_="tiles")


def _beside(report: SearchReport) -> RatedPlan | None:
    others = [plan for plan in report.plans if plan.baseline or plan.name == "fp32"]
    return next((plan for plan in others if plan.name != report.chosen), None)


def contract_table(report: SearchReport) -> Markup:
    """The bounds, what is taken of each, and whether it is kept."""
    rows = [
        _bound_row(each, name_of(each.quantity, report.has_labels), each.quantity == report.binding)
        for each in report.bounds
    ]
    return table(("bound", "at most", "taken", "used", ""), rows) if rows else Markup()


def _bound_row(use: BoundUse, name: str, binds: bool) -> tuple[str, tuple[Cell | str, ...]]:
    kept = use.excess is None
    words = "kept" if kept else f"broken, {use.excess:.3g} times" if use.limit else "broken"
    shown = Markup.of(percent(use.share), " ", bar(use.share, colour="good" if kept else "bad"))
    return (
        "binding" if binds else "",
        (
            name,
            Cell(amount(use.quantity, use.limit), use.limit),
            Cell(amount(use.quantity, use.taken), use.taken),
            Cell(shown, use.share, "barred"),
            Cell(f"{words}, binding" if binds else words, kind="good" if kept else "bad"),
        ),
    )


def checked(report: SearchReport) -> Markup:
    """Say what simulating the chosen plan took, beside what was predicted."""
    if (check := report.spot_check) is None:
        return Markup()
    predicted = report.choice.cost
    says = f"Simulated on a sample, its layers take {amount('latency', check.seconds)} and "
    says += f"{amount('energy', check.energy)}; predicted were {amount('latency', predicted.seconds)} and "
    says += f"{amount('energy', predicted.energy)}."
    if check.others:
        says += f" What runs between them takes another {amount('latency', check.others)}."
    return paragraph(element("b", "Simulation. "), says)


def certified(certificate: Certificate) -> Markup:
    """Say what is proved of the choice on the additive model."""
    taken, name = amount(certificate.quantity, certificate.value), NAMES[certificate.quantity]
    among = f"among {many(certificate.policies)} policies"
    if certificate.gap == 0:
        proved = f"{taken} is proved to be the least {name} {among}"
    else:
        least = amount(certificate.quantity, certificate.bound)
        proved = f"no policy {among} takes less than {least} of {name} within the bounds: the chosen one's "
        proved += f"{taken} are within {percent(certificate.gap)} of the best"
    return paragraph(element("b", "Certificate. "), f"On the additive model, {proved}.")
