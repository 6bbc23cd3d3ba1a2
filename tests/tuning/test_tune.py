"""A network is tuned within a budget, goes on where it was, and gets the faster mappings into its plan."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tersor.plan import LayerPlan, Plan
from tersor.scheme import INT8
from tersor.targets.cpu.layout.geometry import Tiling
from tersor.tuning.journal import RECORDS, Journal
from tersor.tuning.measurement import Candidate, Laboratory, Timing
from tersor.tuning.tune import Tuned, tune, with_mappings
from tests.tuning.workloads import HOST, use, workload

USES = [use("a"), use("b"), use("c", outputs=16)]


class Bench(Laboratory):
    """Times nothing: a tile of one vector takes `ratio` of the others' second."""

    def __init__(self, ratio: float = 0.8, second_look: float | None = None) -> None:
        self.ratio = ratio
        self.second_look = ratio if second_look is None else second_look
        self.seen: list[Candidate] = []

    def measure(self, candidate: Candidate, rounds: int = 0) -> Timing | str:
        self.seen.append(candidate)
        if candidate.tiling.vectors != 1:
            return Timing(1.1, 1.0)
        return Timing(self.second_look if self.seen.count(candidate) > 1 else self.ratio, 1.0)


def tuned(
    path: Path, bench: Bench, budget: float = 1e9, now: Callable[[], float] = lambda: 0.0
) -> tuple[Tuned, ...]:
    return tune(USES, 1, bench, Journal(path, HOST, "a CPU"), budget, now=now)


def test_the_faster_mapping_is_found_and_looked_at_twice(tmp_path: Path) -> None:
    bench = Bench()
    first, second = tuned(tmp_path, bench)
    assert (first.layers, second.layers) == (("a", "b"), ("c",))
    assert first.ratio == 0.8
    assert first.mapping is not None
    assert "K=" not in ", ".join(str(loop) for loop in first.mapping.loops if loop.at == "registers")
    twice = [each for each in bench.seen if bench.seen.count(each) == 2]
    assert {each.tiling.vectors for each in twice} == {1}


def test_what_is_faster_only_at_first_sight_is_not_taken(tmp_path: Path) -> None:
    assert [each.mapping for each in tuned(tmp_path, Bench(0.8, second_look=0.99))] == [None, None]


def test_a_budget_ends_the_measuring_and_the_next_run_goes_on(tmp_path: Path) -> None:
    everything = Bench()
    tuned(tmp_path / "whole", everything)
    first, again, last = Bench(), Bench(), Bench()
    clock = count()
    tuned(tmp_path / "parts", first, 6, lambda: next(clock))
    assert 0 < len(first.seen) < len(everything.seen)
    result = tuned(tmp_path / "parts", again)
    assert first.seen + again.seen == everything.seen
    assert tuned(tmp_path / "parts", last) == result
    assert last.seen == []


def test_a_kill_loses_at_most_what_was_being_measured(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Dying(Bench):
        def measure(self, candidate: Candidate, rounds: int = 0) -> Timing | str:
            if len(self.seen) == 5:
                raise Killed
            return super().measure(candidate, rounds)

    with pytest.raises(Killed):
        tuned(tmp_path, Dying())
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 5


def test_a_plan_gets_the_mappings_with_their_reason() -> None:
    each = workload()
    mapping = each.nest.mapping(Tiling(2, 1, 6, 1, parallel=False))
    other = each.nest.mapping(Tiling(3, 1, 6, 1, parallel=False))
    layers = {"a": LayerPlan(INT8, (other,), "as asked; its mapping took 0.70 of it"), "b": LayerPlan(INT8)}
    plan = Plan("0" * 64, "cpu-avx2", layers)
    found = [Tuned(each, ("a", "unplanned"), 1.0, 0.8, mapping, 9), Tuned(each, ("b",), 1.0, 1.0, None, 9)]
    after = with_mappings(plan, found).layers
    assert after["a"] == LayerPlan(
        INT8, (mapping,), "as asked; its mapping took 0.80 of the analytic one's time"
    )
    assert after["b"] == LayerPlan(INT8)
    assert set(after) == {"a", "b"}
