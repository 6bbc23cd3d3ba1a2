"""Front: plans of which none takes less of everything, each by a name, with the drop that is expected."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tersor.scheduler.trial import Trial

FRONT = 12  # plans
MOST = 100.0  # points that can be lost


@dataclass(frozen=True)
class DropModel:
    """Drops by predicted losses: what trials measured, rising, in between a line; (0, 0) is fp32."""

    losses: tuple[float, ...]
    drops: tuple[float, ...]

    @classmethod
    def of(cls, trials: Sequence[tuple[float, Trial]]) -> "DropModel":
        """Fit trials, each with the loss that was predicted of it."""
        pairs = sorted((loss, each.measured.drop) for loss, each in trials)
        losses = (0.0, *(loss for loss, _ in pairs))
        drops = np.maximum.accumulate([0.0, *(drop for _, drop in pairs)])
        return cls(losses, tuple(float(drop) for drop in drops))

    def drop(self, loss: float) -> float:
        """The expected drop, in points; beyond the trials in proportion to the loss."""
        farthest = self.losses[-1]
        if loss > farthest > 0:
            return min(MOST, self.drops[-1] * loss / farthest)
        return float(np.interp(loss, self.losses, self.drops))

    def loss(self, drop: float) -> float:
        """The loss from which on so many points are expected to be lost; infinite if none is known."""
        if drop <= self.drops[-1]:
            first = next(place for place, each in enumerate(self.drops) if each >= drop)
            return float(np.interp(drop, self.drops[: first + 1], self.losses[: first + 1]))
        return self.losses[-1] * drop / self.drops[-1] if self.drops[-1] else float("inf")
