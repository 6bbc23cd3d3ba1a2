"""Page: the parts of a search's report, one below the other, in one HTML file without anything from outside.

The page forbids itself to load anything (Content-Security-Policy), so it looks the same without a network.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

from tersor.autoscheduler.page.amounts import count_of, duration
from tersor.autoscheduler.page.front_picture import front_picture
from tersor.autoscheduler.page.heat_table import heat_table, refusals
from tersor.autoscheduler.page.layer_table import layer_table, scheme_counts
from tersor.autoscheduler.page.markup import Markup, element, paragraph, section
from tersor.autoscheduler.page.plan_tables import ablation_table, given, plans_table, transfer_table
from tersor.autoscheduler.page.summary import certified, checked, contract_table, figures, verdict
from tersor.autoscheduler.page.tensor_table import tensor_table
from tersor.autoscheduler.page.time_tables import evaluation_table, spent_table
from tersor.autoscheduler.report import SearchReport
from tersor.error import UserError
from tersor.scheduler.contract import Quantity

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def search_page(report: SearchReport) -> str:
    """Give a report as HTML; equal reports give equal text.

    Pictures need matplotlib; without it a sentence stands in their place, and the tables have the numbers.
    """
    title = f"{report.model} on {report.hardware}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{title}: search report"),
        element("style", Markup(_asset("page.css"))),
    )
    script = element("script", Markup(_asset("sort.js")))
    body = element("body", _header(report, title), element("main", *_parts(report)), script)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def write_search_page(report: SearchReport, path: Path) -> None:
    """Write a report as HTML to `path`. Raises UserError if it cannot be written."""
    text = search_page(report)
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _header(report: SearchReport, title: str) -> Markup:
    kind = "labelled samples" if report.has_labels else "samples, by agreement with fp32"
    told = [
        count_of(len(report.layers), "layer"),
        f"{count_of(len(report.evaluations), 'plan')} tried by {report.strategy} search",
        f"{report.samples:,} {kind}",
        f"seed {report.seed}",
    ]
    told += [f"{duration(report.seconds)} in all"] if report.spent else []
    return element("header", element("h1", title), paragraph(" · ".join(told), class_="told"))


def _parts(report: SearchReport) -> list[Markup]:
    certificate = certified(report.certificate) if report.certificate else Markup()
    listing = _folded("The chosen plan as text", report.listing) if report.listing else Markup()
    return [
        section(
            "contract",
            "Contract",
            verdict(report),
            figures(report),
            contract_table(report),
            certificate,
            checked(report),
        ),
        section("front", "Plans", _fronts(report), plans_table(report)),
        section("layers", "Layers of the chosen plan", scheme_counts(report), layer_table(report)),
        section("tensors", "Tensors between layers", tensor_table(report)),
        section("sensitivity", "Sensitivity", heat_table(report)),
        section("ablations", "What choosing together brings", ablation_table(report)),
        section("machines", "Other machines", transfer_table(report)),
        section("evaluations", "Evaluations", evaluation_table(report)),
        section("time", "Time", spent_table(report)),
        section("refusals", "Refusals", refusals(report)),
        section("listing", "Listing", listing),
    ]


def _fronts(report: SearchReport) -> Markup:
    quantities = given(report, [plan.cost for plan in report.plans])
    first = sorted(quantities, key=lambda each: each != report.contract.minimize)
    try:
        pictures = [_framed(report, quantity) for quantity in first]
    except UserError as error:
        return paragraph(f"There are no pictures: {error}")
    return Markup.of(_legend(report), element("div", *pictures, class_="pictures"))


def _framed(report: SearchReport, quantity: Quantity) -> Markup:
    return element("figure", front_picture(report, quantity))


def _legend(report: SearchReport) -> Markup:
    marks = [("★", "chosen", "chosen"), ("◆", "baseline", "baseline"), ("●", "front", "measured")]
    marks += [("○", "front", "predicted")]
    marks += [("┄", "bound", "bound; beyond it the contract is broken")] if report.bounds else []
    entries = (element("li", element("span", sign, class_=kind), f" {says}") for sign, kind, says in marks)
    return element("ul", *entries, class_="legend")


def _folded(title: str, text: str) -> Markup:
    return element("details", element("summary", title), element("pre", text))


@cache
def _asset(name: str) -> str:
    """The text of a file beside this one."""
    return (files(__package__ or "") / name).read_text(encoding="utf-8")
