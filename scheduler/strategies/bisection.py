"""Bisection: the greatest loss, by the model, of a policy whose measured drop keeps its bound.

The model adds up what schemes do one by one. Measured together they may do more or less, and what a loss
costs in accuracy differs between networks: both are read off the trials. Policies that take the least for
their loss lie on a path, the more loss the less they take, and the drop grows along it in tendency. So a few
trials bracket the place where it passes the bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nextafter, sqrt
from statistics import median
from typing import Protocol

from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.trial import Trial

# Where nothing is known, a hundredth of the output's power turned to noise is taken for a point.
_LOSS_OF_A_POINT = 0.01
# A bracket is tight if what its far end takes is less by this little.
_TIGHT = 2e-3
# A step out of what was tried, at least and at most this many times the loss.
_LEAST_STEP, _GREATEST_STEP = 2.0, 16.0
# As long as nothing was lost, so many times the greatest loss that was tried is taken to be fine.
_FREE_STEP = 4.0
# Inside of a bracket, not nearer to an end than this share of its logarithm.
_MARGIN = 0.2
# Samples whose class is another, as a share: as many become right as become wrong by chance.
_CHANGED = 0.05
# So many trials kept the bound with this much of the loss or more: then one that did not is an outlier.
_BESIDE, _ENOUGH_BESIDE = 0.8, 2
# Halvings of a bracket in search of a policy that takes less than its lower end.
_HALVINGS = 40


class Path(Protocol):
    """Policies that take the least for the loss that they may have."""

    @property
    def least(self) -> float:
        """The least loss that a policy can have."""
        ...

    def free(self) -> Policy:
        """The policy that takes the least with whatever loss."""
        ...

    def within(self, loss: float) -> Policy:
        """The policy that takes the least with at most this loss, which is not below the least."""
        ...

    def takes(self, policy: Policy) -> float:
        """What the policies on the path have the least of."""
        ...

    def has(self, policy: Policy) -> bool:
        """Whether no other policy takes less with as little loss."""
        ...


@dataclass(frozen=True)
class Bisection:
    """The next policy on a path, by what the trials say; it ends after `most` trials of policies on it."""

    problem: Problem
    path: Path
    max_drop: float
    most: int

    def next(self, trials: Sequence[Trial]) -> Policy | None:
        """Give a policy that was not tried; None if the bracket is tight, or one end of the path decides."""
        own = [trial for trial in trials if self.path.has(trial.policy)]
        if len(own) >= self.most:
            return None
        kept = [each for each in own if each.measured.drop <= self.max_drop]
        broken = [each for each in own if each.measured.drop > self.max_drop]
        chance = [each for each in broken if self._is_outlier(each, kept, broken, trials)]
        kept += chance
        broken = [each for each in broken if each not in chance]
        low = max(map(self._loss, kept), default=None)
        high = min((loss for loss in map(self._loss, broken) if low is None or loss > low), default=None)
        policy = self._step(low, high, self._allowed(own, trials))
        return None if any(trial.policy == policy for trial in trials) else policy

    def _loss(self, trial: Trial) -> float:
        return self.problem.loss(trial.policy)

    def _is_outlier(
        self, trial: Trial, kept: Sequence[Trial], broken: Sequence[Trial], trials: Sequence[Trial]
    ) -> bool:
        """Whether a drop above its bound says little: alone among many, or beside others that kept it."""
        beside = sum(self._loss(each) >= _BESIDE * self._loss(trial) for each in kept)
        alone = bool(kept) and len(broken) == 1
        return (alone or beside >= _ENOUGH_BESIDE) and self._is_chance(trial, trials)

    def _is_chance(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Whether a drop is above its bound by no more than chance, and by what all lost would be below."""
        loss = sum(each.measured.loss for each in trials)
        expected = sum(each.measured.drop for each in trials) * trial.measured.loss / loss if loss else 0.0
        above = trial.measured.drop - self.max_drop
        return expected <= self.max_drop and 0 < above <= 100 * sqrt(_CHANGED / trial.measured.samples)

    def _allowed(self, own: Sequence[Trial], trials: Sequence[Trial]) -> float:
        """The loss, by the model, at which the drop is expected to reach its bound.

        Drops are taken to be proportional to measured losses, and these to the model's. The trials' drops
        are added up, with a point that costs what is taken where nothing is known: the drop of a gentle
        policy is a few samples more or less by chance, and says little.
        """
        points = max(0.0, sum(each.measured.drop for each in trials))
        loss = sum(each.measured.loss for each in trials if each.measured.drop)
        allowed = self.max_drop * (loss + _LOSS_OF_A_POINT) / (points + 1)
        if not points:
            allowed = max(allowed, _FREE_STEP * max((each.measured.loss for each in trials), default=0.0))
        ratios = [
            each.measured.loss / self._loss(each)
            for each in own or trials
            if self._loss(each) > 0 and each.measured.loss > 0
        ]
        return allowed / median(ratios) if ratios else allowed

    def _step(self, low: float | None, high: float | None, allowed: float) -> Policy | None:
        """The next policy: `low` is the greatest loss that was kept, `high` the least one above it that was
        not."""
        if low is None:
            if high is not None and high <= self.path.least:
                return None
            if high is not None:
                allowed = min(max(allowed, high / _GREATEST_STEP), high / _LEAST_STEP)
            return self.path.within(max(allowed, self.path.least))
        end = self.path.free() if high is None else self.path.within(nextafter(high, 0.0))
        if self.path.takes(end) >= self._reached(low) * (1 - _TIGHT):
            return None
        farthest = self.problem.loss(end)
        if high is None:
            step = max(low, farthest / _GREATEST_STEP**2) * _GREATEST_STEP
            wanted = min(max(allowed, low * _LEAST_STEP), step)
            return self._beyond(low, wanted, end)
        ends = log(max(low, high / _GREATEST_STEP)), log(high)
        share = (log(max(allowed, high / _GREATEST_STEP)) - ends[0]) / (ends[1] - ends[0])
        share = min(max(share, _MARGIN), 1 - _MARGIN)
        return self._beyond(low, exp(ends[0] + share * (ends[1] - ends[0])), end)

    def _beyond(self, low: float, wanted: float, end: Policy) -> Policy:
        """The policy within `wanted` or more that takes less than that within `low`; at the latest `end`."""
        farthest = self.problem.loss(end)
        for _ in range(_HALVINGS):
            if wanted >= farthest:
                return end
            policy = self.path.within(wanted)
            if self.path.takes(policy) < self._reached(low):
                return policy
            wanted = (wanted * farthest) ** 0.5
        return end

    def _reached(self, low: float) -> float:
        return self.path.takes(self.path.within(low))
