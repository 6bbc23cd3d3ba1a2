"""Measurement: MetaSchedule's builder and runner, in this process.

A worker process of MetaSchedule's own would import every GPU intrinsic first, which takes longer than it
waits for a build. Here builds stay in memory, and all that are run together are run in turn, so that they see
the same noise; the first of them is what the others' results must equal.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir.meta_schedule.builder import BuilderInput, BuilderResult, PyBuilder
from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerInput, RunnerResult

from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.layout.geometry import Tiling
from tersor.tuning.workload import Workload

Array = npt.NDArray[Any]
Meter = Callable[[Tiling, Callable[[], None]], float]  # seconds that a call takes

# Rounds in which each takes a turn, where that decides between two and where it is all that is measured;
# and seconds that a turn takes at least.
ROUNDS, ALONE = 9, 15
TURN = 4e-4
# What takes so many times as long as the first after a few rounds is not run any more.
HOPELESS = 1.25
FIRST_ROUNDS = 3
FLOAT_ERROR = 1e-5  # of the largest result


def meter(threads: int) -> Meter:
    """Give what times a call: the CPU time of one thread, or the wall time of several."""
    clock = time.process_time if threads == 1 else time.perf_counter

    def seconds(_tiling: Tiling, call: Callable[[], None]) -> float:
        start = clock()
        call()
        return clock() - start

    return seconds


@dataclass(frozen=True)
class Candidate:
    """A workload in one tiling."""

    workload: Workload
    tiling: Tiling


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: of a candidate, and of what took turns with it, its default or a reference."""

    seconds: float
    default: float

    @property
    def ratio(self) -> float:
        """The share of the other's time that it takes."""
        return self.seconds / self.default


@dataclass(frozen=True)
class _Build:
    """A compiled candidate with the arguments of its runs."""

    candidate: Candidate
    function: Any
    arguments: list[list[Any]]

    def result(self) -> Array:
        """Run once."""
        self.function(*self.arguments[0])
        return self.arguments[0][-1].numpy()


class Laboratory:
    """Builds candidates and times them beside the analytic tiling of their workload."""

    def __init__(self, host: Host, meter: Meter) -> None:
        self._target = host.target
        self._meter = meter
        self._builds: dict[str, _Build] = {}  # by the path that MetaSchedule knows them by
        self._references: dict[Candidate, None] = {}  # whose builds are kept

    def measure(self, candidate: Candidate, rounds: int = ROUNDS) -> Timing | str:
        """Time a candidate beside the default, the least of each; a sentence says what is wrong with it."""
        default = Candidate(candidate.workload, candidate.workload.default)
        timed = self._in_turn(default, candidate, rounds, alike=True)
        return timed if isinstance(timed, str) else Timing(min(timed[1]), min(timed[0]))

    def compare(self, workload: Workload, reference: Workload, rounds: int = ALONE) -> Timing | str:
        """Time a workload's default beside another one's, each round by itself; or say what is wrong.

        What else the machine does slows down both, so the ratio of the medians is that of the median round.
        """
        beside = Candidate(reference, reference.default)
        self._references[beside] = None
        timed = self._in_turn(beside, Candidate(workload, workload.default), rounds, alike=False)
        if isinstance(timed, str):
            return timed
        usual = float(np.median(timed[0]))
        return Timing(float(np.median(np.divide(timed[1], timed[0]))) * usual, usual)

    def _in_turn(
        self, first: Candidate, second: Candidate, rounds: int, alike: bool
    ) -> tuple[list[float], list[float]] | str:
        """Give the seconds of both in each round; two that are `alike` must give the same results."""
        self._keep([*self._references, first, second])
        results = _Builder(self._builds, [first, second]).build(
            [self._input(each) for each in (first, second)]
        )
        if reason := next((each.error_msg for each in results if each.error_msg is not None), None):
            return str(reason)
        inputs = [RunnerInput(str(each.artifact_path), "llvm", []) for each in results]
        futures = _Runner(self._builds, self._meter, rounds, alike).run(inputs)
        one, other = (future.result() for future in futures)
        if other.error_msg is not None:
            return str(other.error_msg)
        return _seconds(one), _seconds(other)

    def _input(self, candidate: Candidate) -> BuilderInput:
        function = candidate.workload.prim_func(candidate.tiling).with_attr("global_symbol", "main")
        return BuilderInput(tvm.IRModule({"main": function}), self._target)

    def _keep(self, candidates: Sequence[Candidate]) -> None:
        """Free the memory of all builds but these."""
        self._builds = {path: each for path, each in self._builds.items() if each.candidate in candidates}


@derived_object
class _Builder(PyBuilder):
    """Compiles candidates, unless they are there already."""

    def __init__(self, builds: dict[str, _Build], candidates: Sequence[Candidate]) -> None:
        super().__init__()
        self.builds = builds
        self.candidates = candidates

    def build(self, build_inputs: Sequence[BuilderInput]) -> list[BuilderResult]:
        """Give the paths of the builds, which are names in memory."""
        pairs = zip(self.candidates, build_inputs, strict=True)
        return [self._build(candidate, given) for candidate, given in pairs]

    def _build(self, candidate: Candidate, given: BuilderInput) -> BuilderResult:
        path = f"memory:{candidate.workload.digest} {candidate.tiling}"
        if path in self.builds and self.builds[path].candidate == candidate:
            return BuilderResult(path, None)
        try:
            function = tvm.tirx.build(given.mod, target=given.target)["main"]
        except Exception as error:  # whatever LLVM says of one candidate, the others go on
            return BuilderResult(None, f"it does not compile: {str(error).strip().splitlines()[-1]}")
        runs = candidate.workload.arguments(candidate.tiling, given.mod["main"])
        shared: dict[int, Any] = {}
        tensors = [[shared.setdefault(id(each), tvm.runtime.tensor(each)) for each in run] for run in runs]
        self.builds[path] = _Build(candidate, function, tensors)
        return BuilderResult(path, None)


@derived_object
class _Runner(PyRunner):
    """Runs builds in turn; of those that are `alike`, one with other results than the first is told so."""

    def __init__(self, builds: dict[str, _Build], meter: Meter, rounds: int, alike: bool) -> None:
        super().__init__()
        self.builds = builds
        self.meter = meter
        self.rounds = rounds
        self.alike = alike

    def run(self, runner_inputs: Sequence[RunnerInput]) -> list[Any]:
        """Time all; the futures are there already."""
        builds = [self.builds[str(each.artifact_path)] for each in runner_inputs]
        expected = builds[0].result()
        right = [build for build in builds if not self.alike or _same(build, expected)]
        seconds = self._times(right)
        return [
            _Measured(seconds.get(id(build)), None if build in right else "its results differ")
            for build in builds
        ]

    def _times(self, builds: Sequence[_Build]) -> dict[int, list[float]]:
        """Give the seconds of a call in each round, by the identity of the build."""
        first, *others = builds
        calls = {id(first): self._calls(first)}
        for build in others:
            calls[id(build)] = calls[id(first)] if self.alike else self._calls(build)
        times: dict[int, list[float]] = {id(build): [] for build in builds}
        for done in range(self.rounds):
            fastest = min(times[id(first)], default=0.0)
            for build in builds if done % 2 == 0 else reversed(builds):
                seen, count = times[id(build)], calls[id(build)]
                if not self.alike or done < FIRST_ROUNDS or min(seen) <= HOPELESS * fastest:
                    seen.append(self._time(build, count) / count)
        return times

    def _calls(self, build: _Build) -> int:
        """Give how many calls a turn is made of."""
        return max(1, min(1000, round(TURN / max(1e-9, self._time(build, 1)))))

    def _time(self, build: _Build, calls: int) -> float:
        function, arguments = build.function, build.arguments

        def call() -> None:
            for i in range(calls):
                function(*arguments[i % len(arguments)])

        return self.meter(build.candidate.tiling, call)


@derived_object
class _Measured(PyRunnerFuture):
    """The result of a run that is over."""

    def __init__(self, seconds: list[float] | None, error: str | None) -> None:
        super().__init__()
        self.seconds = seconds
        self.error = error

    def done(self) -> bool:
        """Whether it is over."""
        return True

    def result(self) -> RunnerResult:
        """Give the seconds of each round, or what is wrong."""
        return RunnerResult(self.seconds, self.error)


def _same(build: _Build, expected: Array) -> bool:
    """Whether a build's results are equal to the bit, or of floats within rounding."""
    result = build.result()
    if result.dtype != np.float32:
        return np.array_equal(result, expected)
    return bool(np.abs(result - expected).max() <= FLOAT_ERROR * np.abs(expected).max())


def _seconds(result: RunnerResult) -> list[float]:
    return [float(each) for each in result.run_secs or ()]
