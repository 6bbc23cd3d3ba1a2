"""Stopwatch: how long builds take on this machine, as a whole and layer by layer.

Others' work only ever adds to a time, so the least of many runs counts; builds run in turn, so that all have
the same chances.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tersor.ir.graph import bindings_of
from tersor.ir.join import join
from tersor.model import Build
from tersor.runner import Runner

Seconds = npt.NDArray[np.float64]

# Rounds are enough when so many of them together have not made a sum of least times so much shorter.
STABLE_ROUNDS = 10
STABLE = 0.005


@dataclass(frozen=True)
class Stopwatch:
    """Measures in rounds until the least times are stable, for at most `limit` seconds of `clock`."""

    limit: float = 4.0  # s
    clock: Callable[[], float] = field(default=time.perf_counter)

    def networks(self, builds: Sequence[Build]) -> list[float]:
        """Give the seconds of one run of each build, added over its buckets."""
        prepared = [[each.runner.prepare(x.draw()) for x in each.runner.buckets.shapes] for each in builds]

        def timed(runner: Runner, inputs: list) -> Seconds:
            times = []
            for one in inputs:
                start = self.clock()
                runner.run(one)
                times.append(self.clock() - start)
            return np.array(times)

        pairs = zip(builds, prepared, strict=True)
        found = self.least([lambda b=build, x=inputs: timed(b.runner, x) for build, inputs in pairs])
        return [float(times.sum()) for times in found]

    def layers(self, builds: Sequence[Build]) -> list[dict[str, float]]:
        """Give the seconds of each layer's kernel within each build, added over its uses and the buckets."""
        traces = [_Trace(build) for build in builds]
        found = self.least([trace.times for trace in traces])
        return [trace.by_layer(times) for trace, times in zip(traces, found, strict=True)]

    def least(self, measures: Sequence[Callable[[], Seconds]]) -> list[Seconds]:
        """Call all in turn, until it is enough, and give the least of every time that each gives."""
        for measure in measures:
            measure()  # warms up
        least = [measure() for measure in measures]
        start, steady, before = self.clock(), 0, _sums(least)
        while steady < STABLE_ROUNDS and self.clock() - start < self.limit:
            least = [np.minimum(known, measure()) for known, measure in zip(least, measures, strict=True)]
            now = _sums(least)
            steady += 1
            if (now < (1 - STABLE) * before).any():
                steady, before = 0, now
        return least


class _Trace:
    """A build that is watched: the calls of its functions, in all buckets."""

    def __init__(self, build: Build) -> None:
        self.runner = Runner(build.executable, build.runner.buckets)
        shapes = self.runner.buckets.shapes
        self.prepared = [self.runner.prepare(bucket.draw()) for bucket in shapes]
        kernels = _kernels(build, [bucket.entry for bucket in shapes])
        self.layers: list[str | None] = []
        for names, inputs in zip(kernels, self.prepared, strict=True):
            self.layers += _matched(names, [name for name, _ in self.runner.trace(inputs)])

    def times(self) -> Seconds:
        return np.array([seconds for inputs in self.prepared for _, seconds in self.runner.trace(inputs)])

    def by_layer(self, times: Seconds) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        for layer, seconds in zip(self.layers, times, strict=True):
            if layer is not None:
                sums[layer] += float(seconds)
        return dict(sums)


def _kernels(build: Build, entries: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Give, for each bucket, the functions of the layers' kernels in order, each with its layer."""
    joined = join({entry: each.mod for entry, each in zip(entries, build.lowered, strict=True)})
    for entry, each in zip(entries, build.lowered, strict=True):
        bindings = bindings_of(joined, entry)
        yield [(bindings[call.binding][1].args[0].name_hint, call.layer) for call in each.calls]


def _matched(kernels: Sequence[tuple[str, str]], called: Sequence[str]) -> list[str | None]:
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


def _sums(times: Sequence[Seconds]) -> Seconds:
    return np.array([each.sum() for each in times])
