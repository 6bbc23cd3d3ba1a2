"""Front: the mappings that no other one beats in both time and energy (Pareto)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tersor.targets.accelerator.mapper.choices import Digits
from tersor.targets.accelerator.mapper.frame import Level
from tersor.targets.accelerator.tiles import Array

Frame = tuple[Level, ...]


@dataclass(frozen=True)
class Point:
    """A frame with the `digits` [dims] of its sizes, and the cycles and the pJ of the mapping."""

    cycles: float
    energy: float
    frame: Frame
    digits: NDArray[np.int64]

    @property
    def edp(self) -> float:
        """Cycles times pJ."""
        return self.cycles * self.energy


@dataclass
class Front:
    """The points so far, from the fastest to the one of the least energy; of equals the first to come."""

    points: list[Point] = field(default_factory=list)

    def add(self, frame: Frame, digits: Digits, cycles: Array, energy: Array) -> None:
        """Take the mappings `digits` [dims, mappings] of a frame that belong here."""
        new = [
            Point(float(cycles[i]), float(energy[i]), frame, digits[:, i].copy())
            for i in best_of_both(cycles, energy)
        ]
        points = sorted([*self.points, *new], key=lambda point: (point.cycles, point.energy))
        self.points, least = [], np.inf
        for point in points:
            if point.energy < least:
                self.points.append(point)
                least = point.energy

    @property
    def fastest(self) -> Point:
        """The point of the fewest cycles."""
        return self.points[0]

    @property
    def least_energy(self) -> Point:
        """The point of the least energy."""
        return self.points[-1]

    @property
    def least_edp(self) -> Point:
        """The point of the least product of cycles and energy."""
        return min(self.points, key=lambda point: point.edp)


def best_of_both(cycles: Array, energy: Array) -> NDArray[np.int64]:
    """Indices of what nothing else beats in both, the fastest first."""
    order = np.lexsort((energy, cycles))
    before = np.minimum.accumulate(np.concatenate([[np.inf], energy[order]]))[:-1]
    return order[energy[order] < before]
