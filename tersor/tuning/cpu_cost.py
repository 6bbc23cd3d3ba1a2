"""CPU costs: the seconds of a layer under a scheme on this CPU, from measurements of other layers like it.

A kernel that was measured takes what it took, as a share of its family's reference (see `references`), of
which the median of all rounds counts. Another one takes what the model of its family says, the analytic one
or one with a learned correction (see `selection`), after too few measurements for that what its work takes at
their rate, and after none at the nominal clock. What the times are of: the kernel in the middle of a network,
in its analytic tiling; weights of fewer bits or with zeros are decoded when a network loads, so they take
what int8 or fp32 takes; factors run one after the other; dynamic ranges add a pass over the input, at a
nominal rate. A table and a recurrent layer take what the roofline says.

A layer's seconds are without what is between layers: a tensor that changes between codes and floats takes
`conversion` once, for each edge of which one end runs in codes and the other in floats.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import inf
from pathlib import Path
from statistics import median
from typing import Literal, Protocol, get_args

import numpy as np

from tersor.cost import Cost
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.runner import use_threads
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.cpu.host import cost
from tersor.targets.cpu.host.detect import Host, cpu_name, hardware
from tersor.targets.cpu.kernels.work import work_of
from tersor.tuning.journal import REFERENCE, Entry, Journal
from tersor.tuning.kernel_family import KernelFamily
from tersor.tuning.layer_samples import samples
from tersor.tuning.layer_workload import workload_of
from tersor.tuning.measurement import Candidate, Laboratory, Timing, meter
from tersor.tuning.references import reference_of
from tersor.tuning.regression import Analytic, Predict, models
from tersor.tuning.selection import FEWEST, Selected, select
from tersor.tuning.shape_features import kernels_of
from tersor.tuning.workload import Workload

# Kernels of a family that are measured: the layers at hand, and samples.
MOST = 64

# Where seconds are from, the surest first.
Source = Literal["measured", "learned", "analytic"]
SOURCES: tuple[Source, ...] = get_args(Source)

Progress = Callable[[str, int, int | None], None]


class Measurements(Protocol):
    """Where measurements are kept, such as `Journal`."""

    def find(self, candidate: Candidate) -> Entry | None:
        """Give what is known of a candidate."""
        ...

    def add(self, candidate: Candidate, measured: Timing | str) -> None:
        """Take a measurement down."""
        ...


@dataclass(frozen=True)
class Timed:
    """Seconds, and where they are from; nine of ten are within a factor of `spread`, inf if nobody knows."""

    seconds: float
    spread: float
    source: Source

    def then(self, other: "Timed") -> "Timed":
        """Both, one after the other."""
        less_sure = max(self, other, key=lambda each: SOURCES.index(each.source))
        spread = max(self.spread, other.spread)
        return Timed(self.seconds + other.seconds, spread, less_sure.source)


class CpuCosts:
    """The times of layers on `host`; `layers` are those of the network at hand, measured before samples.

    `selected` has the model of each family of which enough is measured, `usual` the seconds that its
    reference takes. Everything that it says follows from the measurements, the layers and the seed.
    """

    def __init__(
        self,
        host: Host,
        measurements: Measurements,
        laboratory: Laboratory,
        layers: Iterable[Layer] = (),
        *,
        seed: int = 0,
        most: int = MOST,
    ) -> None:
        self.host = host
        self.selected: dict[KernelFamily, Selected] = {}
        self.usual: dict[KernelFamily, float] = {}
        self._hardware = hardware(host)
        self._measurements = measurements
        self._laboratory = laboratory
        self._seed = seed
        self._planned = [
            _Planned.of(family, own, host, seed, most)
            for family, own in _by_family(layers, self._hardware).items()
        ]
        self._measured: dict[Workload, float] = {}
        self._rates: dict[KernelFamily, Predict] = {}
        self._memo: dict[tuple[Layer, KernelFamily], Timed] = {}

    @classmethod
    def open(cls, host: Host, directory: Path, layers: Iterable[Layer] = (), *, seed: int = 0) -> "CpuCosts":
        """Use the measurements in a directory. Raises UserError if it cannot be used or is another CPU's."""
        use_threads(host.cores)
        return cls(
            host,
            Journal(directory, host, cpu_name(), REFERENCE),
            Laboratory(host, meter(host.cores)),
            layers,
            seed=seed,
        )

    def train(
        self,
        budget: float = inf,
        progress: Progress = lambda what, done, total: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Measure what is planned and not yet measured, for about `budget` seconds, and learn from it all.

        Layers at hand come first, then samples of each family in turn. Raises UserError if a measurement
        cannot be written, or without scikit-learn.
        """
        start = now()
        todo = [*_in_turn(self._planned, of_samples=False), *_in_turn(self._planned, of_samples=True)]
        for done, (workload, reference) in enumerate(todo):
            candidate = Candidate(workload, workload.default)
            if self._measurements.find(candidate) is None and now() - start < budget:
                progress(f"measuring {workload.name}", done, len(todo))
                self._measurements.add(candidate, self._laboratory.compare(workload, reference))
        self._learn()

    def seconds(self, layer: Layer, scheme: Scheme) -> float:
        """What one run of a layer takes. Raises ValueError for a scheme that the CPU cannot run."""
        return self.timed(layer, scheme).seconds

    def timed(self, layer: Layer, scheme: Scheme) -> Timed:
        """What one run of a layer takes, and how sure that is. Raises ValueError as `seconds` does."""
        if reason := cost.why_not(layer, scheme, self._hardware):
            raise ValueError(reason)
        layer, scheme = cost.without_channels(layer, scheme)
        parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
        first, *others = (self._part(part, scheme) for part in parts)
        for other in others:
            first = first.then(other)
        rounding = cost.rounding_seconds(layer, scheme, self._hardware)
        return replace(first, seconds=first.seconds + rounding)

    def estimate(self, layer: Layer, scheme: Scheme) -> Cost:
        """The cost of one run: size and traffic as of `targets.cpu.host.cost`, the seconds those here."""
        return replace(cost.estimate(layer, scheme, self._hardware), seconds=self.seconds(layer, scheme))

    def conversion(self, elements: int) -> float:
        """The seconds of a tensor of so many elements that changes between codes and floats."""
        return cost.conversion_seconds(elements)

    def _part(self, layer: Layer, scheme: Scheme) -> Timed:
        family = KernelFamily.of(layer, scheme)
        if family is None:
            seconds = cost.estimate(layer, replace(scheme, factor=None), self._hardware).seconds
            return Timed(seconds, inf, "analytic")
        key = replace(layer, name=""), family
        if key not in self._memo:
            self._memo[key] = self._predict(workload_of(layer, family.precision, self.host), family)
        return self._memo[key]

    def _predict(self, workload: Workload, family: KernelFamily) -> Timed:
        if workload in self._measured:
            return Timed(self._measured[workload], 1.0, "measured")
        if selected := self.selected.get(family):
            seconds = float(np.exp(selected.predict(kernels_of([workload]))[0]))
            return Timed(seconds, selected.spread, "learned")
        if rate := self._rates.get(family):
            return Timed(float(np.exp(rate(kernels_of([workload]))[0])), inf, "analytic")
        return Timed(work_of(workload.kernel).seconds(self.host.cores), inf, "analytic")

    def _learn(self) -> None:
        self._memo.clear()
        for planned in self._planned:
            found = {each: self._measurements.find(Candidate(each, each.default)) for each in planned.all}
            entries = {each: entry for each, entry in found.items() if entry is not None and not entry.wrong}
            if not entries:
                continue
            usual = median(timing.default for entry in entries.values() for timing in entry.timings)
            known = {
                each: usual * median(timing.ratio for timing in entry.timings)
                for each, entry in entries.items()
            }
            self.usual[planned.family] = usual
            self._measured |= known
            log_seconds, described = np.log(list(known.values())), kernels_of(list(known))
            self._rates[planned.family] = Analytic().fit(described, log_seconds)
            if len(known) >= FEWEST:
                self.selected[planned.family] = select(models(), described, log_seconds, self._seed)


@dataclass(frozen=True)
class _Planned:
    """What is to be measured of a family: layers at hand, and samples."""

    family: KernelFamily
    reference: Workload
    own: tuple[Workload, ...]
    drawn: tuple[Workload, ...]

    @classmethod
    def of(cls, family: KernelFamily, layers: list[Layer], host: Host, seed: int, most: int) -> "_Planned":
        """Give at most `most`, those of the layers first."""
        drawn = samples(family, most, seed)
        found = [
            tuple(dict.fromkeys(workload_of(each, family.precision, host) for each in some))
            for some in (layers, drawn)
        ]
        own = found[0][:most]
        others = [each for each in found[1] if each not in own]
        reference = reference_of(family, host)
        return cls(family, reference, own, tuple(others[: most - len(own)]))

    @property
    def all(self) -> tuple[Workload, ...]:
        """Both."""
        return self.own + self.drawn


def _by_family(layers: Iterable[Layer], described: Hardware) -> dict[KernelFamily, list[Layer]]:
    """Sort layers by the families of their kernels in fp32 and in int8; without layers give all families."""
    found: dict[KernelFamily, list[Layer]] = {}
    for layer in layers:
        for scheme in (FP32, INT8):
            family = KernelFamily.of(layer, scheme)
            if family is not None and cost.why_not(layer, scheme, described) is None:
                found.setdefault(family, []).append(layer)
    return found or {family: [] for family in KernelFamily.all()}


def _in_turn(planned: Iterable[_Planned], of_samples: bool) -> Iterator[tuple[Workload, Workload]]:
    """Give one workload of each family after the other, with the family's reference."""
    lists = [[(one, each.reference) for one in (each.drawn if of_samples else each.own)] for each in planned]
    for turn in zip_longest(*lists):
        yield from (each for each in turn if each is not None)
