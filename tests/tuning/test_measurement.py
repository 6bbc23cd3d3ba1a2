"""Measurement through MetaSchedule's builder and runner, with a clock that the test holds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tersor.targets.cpu.kernels.epilogue import Epilogue, Requantize
from tersor.targets.cpu.layout.geometry import Tiling
from tersor.tuning import measurement
from tersor.tuning.measurement import Candidate, Laboratory, Timing, meter
from tersor.tuning.workload import Workload
from tests.tuning.workloads import FLOAT, HOST, workload


class Clock:
    """Says that a call takes what is written for its tiling, and lets it run."""

    def __init__(self, seconds: dict[Tiling, float]) -> None:
        self.seconds = seconds
        self.calls: list[Tiling] = []

    def __call__(self, tiling: Tiling, call: Callable[[], None]) -> float:
        call()
        self.calls.append(tiling)
        return self.seconds[tiling]


@pytest.mark.parametrize("epilogue", [Requantize(9), FLOAT])
def test_a_candidate_is_timed_in_turn_with_the_default(epilogue: Epilogue) -> None:
    each = workload(epilogue)
    other = replace(each.default, pixels=2, vectors=1)
    clock = Clock({each.default: 2.0, other: 1.0})
    timing = Laboratory(HOST, clock).measure(Candidate(each, other), rounds=4)
    assert timing == Timing(1.0, 2.0)
    assert timing.ratio == 0.5
    assert clock.calls[1:5] == [each.default, other, other, each.default]


def test_a_hopeless_candidate_is_not_run_to_the_end() -> None:
    each = workload()
    other = replace(each.default, pixels=1, vectors=1)
    clock = Clock({each.default: 1.0, other: 3.0})
    assert Laboratory(HOST, clock).measure(Candidate(each, other), rounds=9) == Timing(3.0, 1.0)
    assert clock.calls.count(other) == 3


def test_other_results_are_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is built for other weights than it is run on."""
    each = workload()
    other = replace(each.default, pixels=1, vectors=1)
    arguments = Workload.arguments

    def wrong(self: Workload, tiling: Tiling, function: Any) -> Any:
        runs = arguments(self, tiling, function)
        return [[runs[0][0] + (tiling == other), *run[1:]] for run in runs]

    monkeypatch.setattr(Workload, "arguments", wrong)
    clock = Clock({each.default: 1.0, other: 0.1})
    assert Laboratory(HOST, clock).measure(Candidate(each, other)) == "its results differ"


def test_what_does_not_compile_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("LLVM\nsays no")

    monkeypatch.setattr(measurement.tvm.tirx, "build", refuse)
    each = workload()
    result = Laboratory(HOST, Clock({})).measure(Candidate(each, replace(each.default, pixels=1, vectors=1)))
    assert result == "it does not compile: says no"


def test_one_thread_is_measured_by_its_cpu_time_and_several_by_the_wall() -> None:
    def sleep() -> None:
        measurement.time.sleep(0.05)

    tiling = workload().default
    assert meter(1)(tiling, sleep) < 0.05 <= meter(2)(tiling, sleep)


def test_two_workloads_are_compared_in_turn_round_by_round() -> None:
    """What slows the machine down for some rounds slows both."""
    one, other = workload(), workload(FLOAT)
    calls: list[str] = []

    def clock(_tiling: Tiling, call: Callable[[], None]) -> float:
        call()
        calls.append("call")
        slow = 1.5 if len(calls) % 8 < 4 else 1.0
        return slow * (1e-3 if (len(calls) % 4) in (0, 1) else 2e-3)

    timing = Laboratory(HOST, clock).compare(other, one, rounds=9)
    assert isinstance(timing, Timing)
    assert timing.ratio in (pytest.approx(0.5), pytest.approx(2.0))


def test_a_workload_compared_to_itself_takes_the_same_time() -> None:
    each = workload()
    timing = Laboratory(HOST, lambda _tiling, call: call() or 1e-3).compare(each, each, rounds=3)
    assert timing == Timing(1e-3, 1e-3)
