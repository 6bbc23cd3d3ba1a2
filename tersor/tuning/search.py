"""Search: which tiling of a workload to measure next, and which is the best.

First every register tile with the analytic tasks, and all tasks with the analytic tile; then combinations of
two, in the order of what they promise together, as long as that is more than what the best has shown.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from tersor.targets.cpu.layout.geometry import Tiling
from tersor.targets.cpu.mapping.space import Space, with_tile

# What a tiling must save to be taken for faster than the analytic one: more than noise does.
MARGIN = 0.03


@dataclass(frozen=True)
class Search:
    """The order in which one space is measured; `seed` shuffles what nothing is known of."""

    space: Space
    seed: int = 0

    def next(self, ratios: Mapping[Tiling, float]) -> Tiling | None:
        """Give the next tiling to measure, from the ratios of those that were; None if none is promising."""
        singles = [*self.space.tiles()[1:], *self.space.tasks()[1:]]
        random.Random(self.seed).shuffle(singles)
        for tiling in singles:
            if tiling not in ratios:
                return tiling
        promised = {
            tiling: self._promise(tiling, ratios) for tiling in self.space.tilings() if tiling not in ratios
        }
        promised.pop(self.space.default, None)
        best = min(promised, key=lambda tiling: promised[tiling], default=None)
        least = min(ratios.values(), default=1.0)
        return best if best is not None and promised[best] < min(least, 1 - MARGIN) else None

    def _promise(self, tiling: Tiling, ratios: Mapping[Tiling, float]) -> float:
        default = self.space.default
        tile, tasks = with_tile(default, tiling), with_tile(tiling, default)
        return self._ratio(tile, ratios) * self._ratio(tasks, ratios)

    def _ratio(self, tiling: Tiling, ratios: Mapping[Tiling, float]) -> float:
        return 1.0 if tiling == self.space.default else ratios.get(tiling, inf)


def fastest(ratios: Mapping[Tiling, float]) -> Tiling | None:
    """Give the fastest tiling, if it is faster than the analytic one beyond noise."""
    best = min(ratios, key=lambda tiling: ratios[tiling], default=None)
    return best if best is not None and ratios[best] < 1 - MARGIN else None
