"""The report of a search: what it says of the contract, and its JSON."""

from dataclasses import replace
from pathlib import Path

import pytest

from tersor.autoscheduler.report import Certificate, RatedPlan, SearchCell, SearchReport
from tersor.cost import Cost
from tersor.document import to_json
from tersor.error import UserError
from tersor.scheduler.contract import Contract
from tersor.scheme import INT8
from tests.searched_reports import report

REPORT = report()


def contract(**bounds: float) -> SearchReport:
    """The report of a chosen plan of 2 s, 4 pJ, 100 bytes and half a point under other bounds."""
    plan = RatedPlan("chosen", Cost(2.0, 4.0, {}, 100), 0.5, "final")
    return replace(REPORT, plans=(plan,), contract=Contract("latency", **bounds))  # type: ignore[arg-type]


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    REPORT.save(tmp_path / "search.json")
    assert SearchReport.load(tmp_path / "search.json") == REPORT
    assert to_json(report(), SearchReport) == (tmp_path / "search.json").read_text()


def test_a_report_with_another_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(to_json(REPORT, SearchReport).replace('"seed"', '"chance"'))
    with pytest.raises(UserError, match=r"seed|chance"):
        SearchReport.load(tmp_path / "search.json")


def test_the_binding_bound_is_the_one_that_is_used_up_most() -> None:
    found = contract(max_drop=1.0, max_latency=2.1, max_energy=40.0)
    assert found.kept
    assert found.binding == "latency"
    assert [(each.quantity, each.share) for each in found.bounds] == [
        ("latency", 2.0 / 2.1), ("energy", 0.1), ("drop", 0.5),
    ]  # fmt: skip


def test_the_binding_bound_is_the_one_that_is_broken_most() -> None:
    found = contract(max_drop=0.25, max_latency=1.5, max_energy=4.0)
    assert not found.kept
    assert found.binding == "drop"
    assert [each.excess for each in found.bounds] == [2.0 / 1.5, None, 2.0]


def test_no_bound_binds_where_there_is_none() -> None:
    assert contract().binding is None
    assert contract().kept


def test_a_bound_of_no_points_is_broken_by_any_drop() -> None:
    found = contract(max_drop=0.0)
    assert (found.binding, found.bounds[0].share, found.bounds[0].excess) == ("drop", 1.0, 1.5)


def test_the_gap_is_what_could_be_saved_at_most() -> None:
    assert Certificate("energy", 100.0, 99.0, 8).gap == pytest.approx(0.01)
    assert Certificate("energy", 100.0, 100.0, 8).gap == 0.0
    with pytest.raises(ValueError, match="at most the value, got 101 and 100"):
        Certificate("energy", 100.0, 101.0, 8)


def test_a_cell_has_a_loss_or_a_reason() -> None:
    for wrong in ({}, {"loss": 0.1, "reason": "too narrow"}):
        with pytest.raises(ValueError, match="either a loss or a reason"):
            SearchCell("fc", INT8, **wrong)


def test_the_chosen_plan_is_among_the_plans_and_each_is_there_once() -> None:
    with pytest.raises(ValueError, match="'best' is not among the plans"):
        replace(REPORT, chosen="best")
    with pytest.raises(ValueError, match="plans need different names, got 'chosen' twice"):
        replace(REPORT, plans=(REPORT.choice, REPORT.choice))


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="number of points, got nan"):
        RatedPlan("chosen", Cost(), float("nan"))
    with pytest.raises(ValueError, match="0 or more, got inf"):
        SearchCell("fc", INT8, float("inf"))
