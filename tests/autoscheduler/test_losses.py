"""However short the time is, every layer has a scheme beside fp32 whose loss is known."""

from collections.abc import Sequence

import pytest

from tersor.autoscheduler.budget import Budget, TimeUp
from tersor.autoscheduler.losses import UNMEASURED, Losses, measure_losses
from tersor.compiler import silent
from tersor.scheduler.journal import Journal
from tersor.scheme import FP32, INT8, Scheme

W4A8 = Scheme.parse("w4a8")
GROUPS = {name: (name,) for name in "abcd"}
SCHEMES = dict.fromkeys(GROUPS, (FP32, INT8, W4A8))


class Counted:
    """An evaluator that says how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def loss(self, layers: Sequence[str], scheme: Scheme) -> float:
        self.asked.append(f"{layers[0]}={scheme}")
        return float(len(self.asked))


def measured(evaluator: Counted, journal: Journal, seconds: float | None, reserve: float = 100.0) -> Losses:
    budget = Budget(seconds)
    return measure_losses(evaluator, GROUPS, SCHEMES, journal, budget, reserve, "run", silent)  # type: ignore[arg-type]


def test_without_a_budget_all_losses_are_measured() -> None:
    evaluator = Counted()
    found = measured(evaluator, Journal(), None)
    assert evaluator.asked == [f"{name}={scheme}" for scheme in (INT8, W4A8) for name in GROUPS]
    assert all(row.keys() == {FP32, INT8, W4A8} for row in found.known.values())
    assert not any(found.refused.values())


def test_where_time_is_short_every_layer_has_one_that_is_measured() -> None:
    evaluator, journal = Counted(), Journal()
    found = measured(evaluator, journal, 50.0)
    assert evaluator.asked == [f"{name}={INT8}" for name in GROUPS]
    assert all(row.keys() == {FP32, INT8} for row in found.known.values())
    assert all(row == {W4A8: UNMEASURED} for row in found.refused.values())
    assert measured(evaluator, journal, None) == found  # a run that goes on stops where that one did
    assert len(evaluator.asked) == len(GROUPS)


def test_where_there_is_not_even_time_for_these_the_search_ends() -> None:
    evaluator = Counted()
    with pytest.raises(TimeUp):
        measure_losses(
            evaluator,  # type: ignore[arg-type]
            GROUPS,
            SCHEMES,
            Journal(),
            Budget(50.0),
            100.0,
            "run",
            silent,
            needed=80.0,
        )
    assert evaluator.asked == []
