"""Tune: measure tilings of all workloads of a network within a budget, and put the faster ones into its plan.

The workload that is to gain most is next: of the most time in the network, and measured least often.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf

from tersor.mapping import Mapping
from tersor.plan import LayerPlan, Plan
from tersor.targets.cpu.calls import Use
from tersor.targets.cpu.layout.geometry import Tiling
from tersor.targets.cpu.mapping.space import Space
from tersor.tuning.journal import Journal
from tersor.tuning.measurement import ROUNDS, Candidate, Laboratory
from tersor.tuning.search import Search, fastest
from tersor.tuning.workload import Workload, workloads

Progress = Callable[[str, int, int | None], None]
# Rounds in which a tiling that seems faster must show that it is.
CERTAIN = 3 * ROUNDS
# How the reason for a mapping begins.
SAVED = "its mapping took"


@dataclass(frozen=True)
class Tuned:
    """What became of one workload: the mapping that is faster than the analytic one, if there is one."""

    workload: Workload
    layers: tuple[str, ...]
    seconds: float  # of the analytic mapping
    ratio: float  # of that which the faster mapping takes
    mapping: Mapping | None
    measured: int  # tilings


def tune(
    uses: Iterable[Use],
    cores: int,
    laboratory: Laboratory,
    journal: Journal,
    budget: float,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[Tuned, ...]:
    """Measure for `budget` seconds, or until nothing is promising any more; what is in the journal is not
    measured again. Raises UserError if the journal cannot be written.
    """
    found = workloads(uses)
    courses = [_Course(workload, len(each), cores, seed, journal) for workload, each in found.items()]
    start = now()
    while (course := max(courses, key=lambda each: each.urgency, default=None)) and course.urgency > 0:
        spent = now() - start
        if spent >= budget and not course.confirms:
            break
        done = sum(len(each.ratios) for each in courses)
        progress(f"measuring {course.workload.name} ({done} measured)", round(spent), round(budget))
        course.step(laboratory)
    return tuple(course.outcome(found[course.workload]) for course in courses)


class _Course:
    """What is known of a workload, and what to measure next."""

    def __init__(self, workload: Workload, uses: int, cores: int, seed: int, journal: Journal) -> None:
        self.workload = workload
        self.uses = uses
        self.journal = journal
        default = workload.default
        space = Space(workload.nest, default, cores, None if workload.free else default.vectors)
        self.search = Search(space, seed)
        self.ratios: dict[Tiling, float] = {}
        self.certain: set[Tiling] = set()  # what was seen twice
        self.seconds = inf  # of the analytic tiling, once it is known
        for tiling in space.tilings():
            self._look_up(tiling)
        self.following = self._next()

    @property
    def confirms(self) -> bool:
        """Whether a tiling that seemed the fastest is to be measured again next."""
        return self.following in self.ratios

    @property
    def urgency(self) -> float:
        """What the network spends in it, for each tiling that was tried; 0 where none is promising."""
        if self.following is None:
            return 0.0
        return inf if self.confirms else self.seconds * self.uses / (1 + len(self.ratios))

    def step(self, laboratory: Laboratory) -> None:
        """Measure the next tiling."""
        assert self.following is not None
        candidate = Candidate(self.workload, self.following)
        rounds = CERTAIN if self.confirms else ROUNDS
        self.journal.add(candidate, laboratory.measure(candidate, rounds))
        self._look_up(self.following)
        self.following = self._next()

    def outcome(self, uses: tuple[Use, ...]) -> Tuned:
        """Give the fastest mapping that was seen twice."""
        best = fastest({tiling: self.ratios[tiling] for tiling in self.certain})
        layers = tuple(dict.fromkeys(use.layer for use in uses))
        mapping = None if best is None else self.workload.nest.mapping(best)
        ratio = 1.0 if best is None else self.ratios[best]
        return Tuned(self.workload, layers, self.seconds, ratio, mapping, len(self.ratios))

    def _next(self) -> Tiling | None:
        seeming = fastest({each: ratio for each, ratio in self.ratios.items() if each not in self.certain})
        least = min((self.ratios[each] for each in self.certain), default=1.0)
        if seeming is not None and self.ratios[seeming] < least:
            return seeming
        return self.search.next(self.ratios)

    def _look_up(self, tiling: Tiling) -> None:
        entry = self.journal.find(Candidate(self.workload, tiling))
        if entry is not None:
            self.ratios[tiling] = entry.ratio
            if len(entry.timings) > 1:
                self.certain.add(tiling)
            self.seconds = min([self.seconds, *(timing.default for timing in entry.timings)])


def with_mappings(plan: Plan, tuned: Iterable[Tuned]) -> Plan:
    """Give a plan with the faster mappings in place of those that it has, and what they save as a reason."""
    layers = {name: _without_mappings(layer) for name, layer in plan.layers.items()}
    for each in tuned:
        for part in each.layers:
            name = part if part in layers else part.rpartition(".")[0]
            if each.mapping is not None and name in layers:
                layers[name] = _with_mapping(layers[name], each)
    return replace(plan, layers=layers)


def _with_mapping(layer: LayerPlan, tuned: Tuned) -> LayerPlan:
    assert tuned.mapping is not None
    mappings = tuple(dict.fromkeys((*layer.mappings, tuned.mapping)))
    saved = f"{SAVED} {tuned.ratio:.2f} of the analytic one's time"
    return replace(layer, mappings=mappings, reason="; ".join(filter(None, (layer.reason, saved))))


def _without_mappings(layer: LayerPlan) -> LayerPlan:
    reasons = [each for each in layer.reason.split("; ") if not each.startswith(SAVED)]
    return replace(layer, mappings=(), reason="; ".join(reasons))
