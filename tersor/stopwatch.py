"""Stopwatch: how long builds take on this machine, as a whole and layer by layer.

Builds run in turn, so that what else the machine does hits all alike, and medians forget the rounds that it
hit hardest. One thread is timed by the processor time of this process, which counts nothing else at all.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tersor.ir.graph import Module, function_calls
from tersor.ir.join import join
from tersor.model import Build
from tersor.runner import Prepared, Runner

Seconds = npt.NDArray[np.float64]
Clock = Callable[[], float]  # s

# It is enough when even and odd rounds have the same medians up to this share.
STABLE = 0.01
FEWEST, ENOUGH = 11, 31  # rounds: of what is slow, and of all else


@dataclass(frozen=True)
class Stopwatch:
    """Measures by `clock` in rounds, until they are stable or have taken `limit` seconds."""

    clock: Clock = time.perf_counter
    limit: float = 2.5  # s

    @classmethod
    def for_cores(cls, cores: int) -> "Stopwatch":
        """Give the stopwatch for what runs on so many cores: threads that wait would count as work."""
        return cls(time.process_time if cores == 1 else time.perf_counter)

    def networks(self, runners: Sequence[Runner]) -> list[Seconds]:
        """Give the seconds of a run of each build in each round, [rounds], added over its buckets."""
        runs = [_Run(runner, self.clock) for runner in runners]
        return [times.sum(axis=1) for times in self.rounds([run.times for run in runs])]

    def layers(self, builds: Sequence[Build]) -> list[dict[str, float]]:
        """Give the seconds of each layer's kernel within each build, added over its uses and the buckets."""
        traces = [_Trace(build, self.clock) for build in builds]
        found = self.rounds([trace.times for trace in traces])
        return [trace.by_layer(np.median(times, axis=0)) for trace, times in zip(traces, found, strict=True)]

    def rounds(self, measures: Sequence[Callable[[], Seconds]]) -> list[Seconds]:
        """Call all in turn, until it is enough, and give what each gave, [rounds, parts]."""
        for measure in measures:
            measure()  # warms up
        start, seen = time.perf_counter(), [[] for _ in measures]
        while not _enough(seen, time.perf_counter() - start > self.limit):
            for times, measure in zip(seen, measures, strict=True):
                times.append(measure())
        return [np.array(times) for times in seen]


def _enough(seen: Sequence[Sequence[Seconds]], late: bool) -> bool:
    count = len(seen[0])
    if count < ENOUGH:
        return late and count >= FEWEST
    return late or all(_is_stable(np.array([times.sum() for times in each])) for each in seen)


def _is_stable(times: Seconds) -> bool:
    even, odd = np.median(times[::2]), np.median(times[1::2])
    return bool(abs(even - odd) <= STABLE * max(even, odd))


class _Run:
    """A build that is run as a whole, in all buckets."""

    def __init__(self, runner: Runner, clock: Clock) -> None:
        self.runner, self.clock = runner, clock
        self.prepared = [runner.prepare(bucket.draw()) for bucket in runner.buckets.shapes]

    def times(self) -> Seconds:
        return np.array([self._timed(inputs) for inputs in self.prepared])

    def _timed(self, inputs: Prepared) -> float:
        start = self.clock()
        self.runner.run(inputs)
        return self.clock() - start


class _Trace:
    """A build that is watched: the calls of its functions, in all buckets."""

    def __init__(self, build: Build, clock: Clock) -> None:
        self.runner, self.clock = Runner(build.executable, build.runner.buckets), clock
        shapes = self.runner.buckets.shapes
        self.prepared = [self.runner.prepare(bucket.draw()) for bucket in shapes]
        self.layers: list[str | None] = []
        for names, inputs in zip(kernels_of(build), self.prepared, strict=True):
            self.layers += _owners(names, [name for name, _ in self.runner.trace(inputs, self.clock)])

    def times(self) -> Seconds:
        return np.array(
            [seconds for inputs in self.prepared for _, seconds in self.runner.trace(inputs, self.clock)]
        )

    def by_layer(self, times: Seconds) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        for layer, seconds in zip(self.layers, times, strict=True):
            if layer is not None:
                sums[layer] += float(seconds)
        return dict(sums)


def kernels_of(build: Build) -> Iterator[list[tuple[str, str]]]:
    """Give, for each bucket, the functions of the layers' kernels in order, each with its layer.

    Of several buckets equal functions are one, so that they have other names in the executable.
    """
    entries = [bucket.entry for bucket in build.runner.buckets.shapes]
    joined = join({entry: each.mod for entry, each in zip(entries, build.lowered, strict=True)})
    for entry, each in zip(entries, build.lowered, strict=True):
        owners = _owners([(call.function, call.layer) for call in each.calls], _called(each.mod, "main"))
        functions = _called(joined, entry)
        yield [(name, owner) for name, owner in zip(functions, owners, strict=True) if owner is not None]


def _called(mod: Module, name: str) -> list[str]:
    return [value.args[0].name_hint for _, value in function_calls(mod, name)]


def _owners(kernels: Sequence[tuple[str, str]], called: Sequence[str]) -> list[str | None]:
    """Give the layer of every call, None for what is none's: the n-th call of a function is its n-th use."""
    uses: dict[str, list[str]] = defaultdict(list)
    for function, layer in kernels:
        uses[function].append(layer)
    seen: Counter[str] = Counter()
    layers: list[str | None] = []
    for name in called:
        known = uses.get(name, [])
        layers.append(known[seen[name]] if seen[name] < len(known) else None)
        seen[name] += 1
    return layers
