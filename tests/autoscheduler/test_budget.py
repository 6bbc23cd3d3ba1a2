"""A budget counts what was spent before a kill, and ends what would take longer than what is left."""

from collections.abc import Callable
from math import inf

import pytest

from tersor.autoscheduler.budget import Budget, TimeUp, until
from tersor.autoscheduler.reserve import Reserve


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_an_earlier_run_spent_counts() -> None:
    clock = Clock()
    budget = Budget(60.0, now=clock)
    clock.now += 10.0
    assert (budget.spent, budget.left) == (10.0, 50.0)
    budget.go_on(30.0)
    assert (budget.spent, budget.left) == (40.0, 20.0)
    assert budget.has(20.0)
    assert not budget.has(20.1)


def test_phases_are_told_apart() -> None:
    clock = Clock()
    budget = Budget(None, now=clock)
    with budget.phase("calibrating"):
        clock.now += 2.0
    assert budget.of("calibrating") == 2.0
    assert budget.left == inf


@pytest.fixture
def steps() -> Callable[[float, float], int]:
    """Counts the steps of a length that are taken within some seconds; the limit is not passed."""

    def count(seconds: float, step: float) -> int:
        clock = Clock()
        budget = Budget(seconds, now=clock)
        heard: list[int] = []
        show = until(lambda: budget.left, lambda done, of: heard.append(done))
        try:
            for done in range(1, 101):
                clock.now += step
                show(done, 100)
        except TimeUp:
            pass
        assert budget.left >= 0
        return len(heard)

    return count


def test_another_step_is_begun_only_if_there_is_time_for_it_on_all_cores(
    steps: Callable[[float, float], int],
) -> None:
    assert steps(10.0, 1.0) == 8
    assert steps(1000.0, 1.0) == 100
    assert steps(inf, 1.0) == 100


def test_the_time_put_aside_is_more_on_a_cpu_which_races_the_plan_with_others() -> None:
    machine, cpu = (Reserve.by(10.0, 2.0, 1.0, on_cpu=on_cpu) for on_cpu in (False, True))
    assert machine.least == machine.all == 26.0
    assert cpu.least > machine.least
    assert cpu.all > 3 * machine.all
