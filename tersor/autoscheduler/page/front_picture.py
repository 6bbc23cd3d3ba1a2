"""Front picture: all plans of a report by one quantity and by the accuracy lost, with the contract's bounds.

A filled mark was measured, a hollow one predicted. The line joins the plans that no other beats in both.
"""

from typing import Any

from tersor.autoscheduler.page.amounts import NAMES, amount, name_of, scaled
from tersor.autoscheduler.page.markup import Markup
from tersor.autoscheduler.report import RatedPlan, SearchReport
from tersor.drawing import figure, inline_svg
from tersor.scheduler.contract import Quantity

INK, LINE, FRONT, CHOSEN, BASELINE, BOUND = "#1d2021", "#c9c6bf", "#2563a8", "#c2410c", "#6b7280", "#b42318"
# So that one picture serves on white and on black, the page's style says what they are.
COLOURS = {
    INK: f"var(--ink, {INK})",
    LINE: f"var(--line, {LINE})",
    FRONT: f"var(--front, {FRONT})",
    CHOSEN: f"var(--chosen, {CHOSEN})",
    BASELINE: f"var(--baseline, {BASELINE})",
    BOUND: f"var(--bound, {BOUND})",
}
LOGARITHMIC = 4.0  # from this ratio of the largest to the least


def front_picture(report: SearchReport, quantity: Quantity) -> Markup:
    """Draw one quantity against the drop as SVG. Raises UserError without matplotlib."""
    plans = [plan for plan in report.plans if plan.of(quantity)]
    with figure(3.7, 2.8) as drawn:
        axes = drawn.add_subplot()
        lost = name_of("drop", report.has_labels)
        _axes(axes, [plan.of(quantity) for plan in plans], quantity)
        axes.set_ylabel(f"{lost}, points", color=INK)
        steps = pareto(plans, quantity)
        across, up = [plan.of(quantity) for plan in steps], [plan.drop for plan in steps]
        axes.step(across, up, where="post", color=FRONT, linewidth=1.2, zorder=2)
        titles = {}
        for place, plan in enumerate(plans):
            _mark(axes, plan, quantity, f"plan{place}", plan.name == report.chosen)
            titles[f"plan{place}"] = (
                f"{plan.name}: {amount(quantity, plan.of(quantity))}, {amount('drop', plan.drop)}"
            )
        if not any(plan.drop for plan in plans):  # else what is drawn is half below zero
            axes.set_ylim(-0.04, 1.0)
        for plan in plans:  # now that the axes have their limits
            if plan.baseline or plan.name == report.chosen:
                _name(axes, plan, quantity, plan.name == report.chosen)
        _bounds(axes, report, quantity)
        label = f"{NAMES[quantity]} of {len(plans)} plans against {lost}"
        return Markup(inline_svg(drawn, f"front-{quantity}", label, COLOURS, titles))


def pareto(plans: list[RatedPlan], quantity: Quantity) -> list[RatedPlan]:
    """The plans that no other beats in both the quantity and the drop, by rising quantity."""
    front: list[RatedPlan] = []
    for plan in sorted(plans, key=lambda plan: (plan.of(quantity), plan.drop)):
        if not front or plan.drop < front[-1].drop:
            front.append(plan)
    return front


def _axes(axes: Any, values: list[float], quantity: Quantity) -> None:
    ratio = max(values) / min(values)
    if ratio > LOGARITHMIC:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(_ticks(ratio))
        axes.xaxis.set_minor_locator(_no_ticks())
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: _tick(quantity, value))
    axes.set_xlabel(NAMES[quantity], color=INK)
    axes.tick_params(colors=INK, length=0)
    axes.grid(True, color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(0.08, 0.13)
    for side, spine in axes.spines.items():
        spine.set_color(LINE)
        spine.set_visible(side in ("left", "bottom"))


def _tick(quantity: Quantity, value: float) -> str:
    number, unit = scaled(quantity, value)
    return f"{number:.5g} {unit}"


def _ticks(ratio: float) -> Any:
    """The fewer in a decade, the more decades there are, so that what is written has room."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 20 else (1.0, 3.0) if ratio < 150 else (1.0,))


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _mark(axes: Any, plan: RatedPlan, quantity: Quantity, part: str, is_chosen: bool) -> None:
    place = (plan.of(quantity), plan.drop)
    colour = CHOSEN if is_chosen else BASELINE if plan.baseline else FRONT
    shape, area = ("*", 150) if is_chosen else ("D", 34) if plan.baseline else ("o", 30)
    filled = colour if plan.known != "predicted" else "none"
    axes.scatter(
        *place, s=area, marker=shape, facecolors=filled, edgecolors=colour, linewidths=1.1, zorder=3,
        clip_on=False, gid=part,
    )  # fmt: skip


def _name(axes: Any, plan: RatedPlan, quantity: Quantity, is_chosen: bool) -> None:
    place, colour = (plan.of(quantity), plan.drop), CHOSEN if is_chosen else BASELINE
    shift, side = _beside(axes, place, is_chosen)
    axes.annotate(
        plan.name, place, shift, textcoords="offset points", ha=side, color=colour, parse_math=False
    )


def _beside(axes: Any, place: tuple[float, float], is_chosen: bool) -> tuple[tuple[int, int], str]:
    """Where a name has room: few plans are better in both than the chosen one, or worse than a baseline."""
    across = axes.transAxes.inverted().transform(axes.transData.transform(place))[0]
    if is_chosen:
        return ((-6, -11), "right") if across > 0.3 else ((7, 5), "left")
    return ((7, 5), "left") if across < 0.6 else ((-3, 7), "right")


def _bounds(axes: Any, report: SearchReport, quantity: Quantity) -> None:
    """Shade what the contract forbids, with the limits of the axes left as the plans make them."""
    limits = report.contract.bounds()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    if quantity in limits and limits[quantity] < right:
        limit = limits[quantity]
        axes.axvline(limit, color=BOUND, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.axvspan(max(limit, left), right, color=BOUND, alpha=0.07, linewidth=0, zorder=0)
    if "drop" in limits and limits["drop"] < high:
        axes.axhline(limits["drop"], color=BOUND, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.axhspan(max(limits["drop"], low), high, color=BOUND, alpha=0.07, linewidth=0, zorder=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
