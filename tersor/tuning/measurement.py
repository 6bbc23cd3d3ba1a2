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

# Rounds in which each takes a turn, and seconds that a turn takes at least.
ROUNDS = 9
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
    """Seconds of one call, the least seen: of a candidate, and of the default in the same rounds."""

    seconds: float
    default: float

    @property
    def ratio(self) -> float:
        """The share of the default's time that it takes."""
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

    def measure(self, candidate: Candidate, rounds: int = ROUNDS) -> Timing | str:
        """Time a candidate; a sentence says what is wrong with it."""
        together = [Candidate(candidate.workload, candidate.workload.default), candidate]
        self._keep(together)
        results = _Builder(self._builds, together).build([self._input(each) for each in together])
        if reason := next((each.error_msg for each in results if each.error_msg is not None), None):
            return str(reason)
        inputs = [RunnerInput(str(each.artifact_path), "llvm", []) for each in results]
        futures = _Runner(self._builds, self._meter, rounds).run(inputs)
        default, timed = (future.result() for future in futures)
        if timed.error_msg is not None:
            return str(timed.error_msg)
        return Timing(_least(timed), _least(default))

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
        path = f"memory:{candidate.tiling}"
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
    """Runs builds in turn; those whose results are not the first's are only told so."""

    def __init__(self, builds: dict[str, _Build], meter: Meter, rounds: int) -> None:
        super().__init__()
        self.builds = builds
        self.meter = meter
        self.rounds = rounds

    def run(self, runner_inputs: Sequence[RunnerInput]) -> list[Any]:
        """Time all; the futures are there already."""
        builds = [self.builds[str(each.artifact_path)] for each in runner_inputs]
        expected = builds[0].result()
        right = [build for build in builds if _same(build, expected)]
        seconds = self._times(right)
        return [
            _Measured(seconds.get(id(build)), None if build in right else "its results differ")
            for build in builds
        ]

    def _times(self, builds: Sequence[_Build]) -> dict[int, list[float]]:
        """Give the seconds of a call in each round, by the identity of the build."""
        once = max(1e-9, self._time(builds[0], 1))
        calls = max(1, min(1000, round(TURN / once)))
        times: dict[int, list[float]] = {id(build): [] for build in builds}
        for done in range(self.rounds):
            fastest = min(times[id(builds[0])], default=0.0)
            for build in builds if done % 2 == 0 else reversed(builds):
                seen = times[id(build)]
                if done < FIRST_ROUNDS or min(seen) <= HOPELESS * fastest:
                    seen.append(self._time(build, calls) / calls)
        return times

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


def _least(result: RunnerResult) -> float:
    return min(float(each) for each in result.run_secs or ())
