"""The picture of the plans: which are joined, and what is marked."""

from dataclasses import replace
from xml.etree import ElementTree

from tersor.autoscheduler.page.front_picture import COLOURS, front_picture, pareto
from tersor.autoscheduler.report import RatedPlan
from tersor.cost import Cost
from tersor.scheduler.contract import Contract
from tests.searched_reports import report

REPORT = report()


def plan(name: str, seconds: float, drop: float) -> RatedPlan:
    return RatedPlan(name, Cost(seconds), drop)


def test_the_line_joins_the_plans_that_none_beats() -> None:
    plans = [
        plan("a", 3.0, 0.1),
        plan("b", 1.0, 0.9),
        plan("c", 2.0, 0.9),
        plan("d", 1.0, 1.2),
        plan("e", 2.0, 0.5),
    ]
    assert [each.name for each in pareto(plans, "latency")] == ["b", "e", "a"]


def test_every_plan_is_a_mark_that_says_what_it_is() -> None:
    titles = [each.text or "" for each in parsed("energy").iter("title")]
    assert len(titles) == len(REPORT.plans)
    assert all(title.startswith(each.name) for title, each in zip(titles, REPORT.plans, strict=True))


def test_colours_are_those_of_the_page() -> None:
    drawn = front_picture(REPORT, "latency")
    for colour, shown in COLOURS.items():
        assert drawn.count(colour) == drawn.count(shown), colour
    assert "#000000" not in drawn


def test_identifiers_are_the_picture_s_own() -> None:
    first, second = (
        {part.get("id") for part in parsed(each).iter() if part.get("id")} for each in ("latency", "energy")
    )
    assert first
    assert not first & second
    assert all(each and each.startswith("front-latency-") for each in first)


def test_references_lead_to_what_is_there() -> None:
    drawn = parsed("latency")
    known = {part.get("id") for part in drawn.iter()}
    used = {part.get("href", "").removeprefix("#") for part in drawn.iter("use")}
    clips = {part.get("clip-path", "")[5:-1] for part in drawn.iter() if part.get("clip-path")}
    assert used
    assert clips
    assert used | clips <= known


def test_what_the_contract_forbids_is_shaded() -> None:
    free = replace(REPORT, contract=Contract("energy"))
    assert "--bound" in front_picture(REPORT, "energy")
    assert "--bound" not in front_picture(free, "energy")


def test_text_is_text() -> None:
    hostile = replace(REPORT, plans=(replace(REPORT.choice, name="$<b>&$"),), chosen="$<b>&$")
    assert "$&lt;b&gt;&amp;$" in front_picture(hostile, "energy")
    assert "font-family" not in front_picture(hostile, "energy")


def parsed(quantity: str) -> ElementTree.Element:
    return ElementTree.fromstring(front_picture(REPORT, quantity))  # type: ignore[arg-type]
