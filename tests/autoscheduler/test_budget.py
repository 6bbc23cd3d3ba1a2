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


def test_the_first_steps_are_taken_to_be_as_long_as_is_said() -> None:
    show = until(lambda: 10.0, lambda done, of: None, longest=6.0)
    with pytest.raises(TimeUp):
        show(0, 5)
    show(5, 5)


def test_what_passed_before_the_search_is_importing() -> None:
    clock = Clock()
    budget = Budget(60.0, started=clock.now - 9.0, now=clock)
    assert budget.left == 51.0
    assert [(each.phase, each.seconds) for each in budget.phases()] == [("importing", 9.0)]


def test_a_phase_is_slow_by_what_others_do_on_this_machine() -> None:
    clock, work = Clock(), Clock()
    budget = Budget(None, now=clock, work=work)
    with budget.phase("compiling"):
        clock.now += 6.0
        work.now += 2.0
    with budget.phase("running"):
        clock.now += 1.0
        work.now += 2.0  # on two cores
    assert [budget.slow(phase) for phase in ("compiling", "running", "not begun")] == [3.0, 1.0, 1.0]


def reserve(slow: float = 1.0, on_cpu: bool = False) -> Reserve:
    return Reserve.by(10.0 * slow, 2.0 * slow, 1.0 * slow, layers=4, slow=slow, on_cpu=on_cpu)


def test_the_time_put_aside_is_more_on_a_cpu_which_races_the_plan_with_others() -> None:
    machine, cpu = reserve(), reserve(on_cpu=True)
    assert machine.least == machine.all
    assert cpu.least > machine.least
    assert cpu.all == cpu.least + 2 * cpu.plan


def test_on_a_machine_that_is_twice_as_slow_all_takes_twice_as_long() -> None:
    idle, busy = reserve(), reserve(slow=2.0)
    assert busy.search == 2 * idle.search
    assert busy.least == 2 * idle.least
    assert busy.simulating(10**7) == 2 * idle.simulating(10**7)
    assert busy.refining(1000) == 2 * idle.refining(1000)


def test_weights_that_are_rounded_by_data_are_so_again_for_each_plan() -> None:
    before = reserve(on_cpu=True)
    after = before.rounding(4.0)
    assert (after.least, after.all) == (before.least + 4.0, before.all + 3 * 4.0)


def test_a_plan_that_took_longer_than_thought_is_what_another_one_takes() -> None:
    before = reserve(on_cpu=True)
    assert before.after(0.5) == before
    after = before.after(before.plan + 7.0)
    assert after.least == before.least + 7.0
    assert after.all == before.all + 3 * 7.0


def test_before_anything_is_measured_less_is_asked_for_than_later() -> None:
    """What compiles in 6 s as it came, and in 10 s for the evaluation: nobody is refused too early."""
    for on_cpu in (False, True):
        early, late = Reserve.expected(6.0, on_cpu), reserve(on_cpu=on_cpu)
        assert early.search + early.least < 10.0 + 2.0 + 1.0 + late.search + late.least
        assert early.enough(spent=8.0) > 8.0 + early.search + early.least
