"""Cost: what running something takes. Estimated and measured costs have the same type."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Cost:
    """A cost of zero in a field also stands for what was neither modelled nor measured.

    `a + b` is `a` and then `b`; `a | b` is both at the same time: only the slower one's time counts.
    """

    seconds: float = 0.0
    energy: float = 0.0  # pJ
    traffic: Mapping[str, float] = field(default_factory=dict)  # bytes moved, by the memory's name
    size: int = 0  # bytes of stored constants
    peak_memory: int = 0  # bytes of activations alive at once

    def __post_init__(self) -> None:
        for name, value in self._fields().items():
            if not value >= 0:
                raise ValueError(f"a cost is not negative, got {name} = {value}")

    def __add__(self, other: Self) -> Self:
        return self._joined(other, self.seconds + other.seconds)

    def __or__(self, other: Self) -> Self:
        return self._joined(other, max(self.seconds, other.seconds))

    def _joined(self, other: Self, seconds: float) -> Self:
        levels = [*self.traffic, *(level for level in other.traffic if level not in self.traffic)]
        return type(self)(
            seconds=seconds,
            energy=self.energy + other.energy,
            traffic={level: self.traffic.get(level, 0) + other.traffic.get(level, 0) for level in levels},
            size=self.size + other.size,
            peak_memory=max(self.peak_memory, other.peak_memory),
        )

    def dominates(self, other: Self) -> bool:
        """Whether no field (traffic counted per memory) is worse than the other's, and one is better."""
        mine, others = self._fields(), other._fields()
        names = mine.keys() | others.keys()
        pairs = [(mine.get(name, 0), others.get(name, 0)) for name in names]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    def _fields(self) -> dict[str, float]:
        scalars = {
            "seconds": self.seconds,
            "energy": self.energy,
            "size": self.size,
            "peak_memory": self.peak_memory,
        }
        return scalars | {f"traffic at {level}": moved for level, moved in self.traffic.items()}
