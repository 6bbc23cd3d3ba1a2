"""Contract: what a user asks of a search: bounds on what a plan may take, and one quantity to make least."""

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from tersor.cost import Cost

# What is made least or bounded: s, pJ, pJ s, bytes, and points of accuracy lost.
Quantity = Literal["latency", "energy", "edp", "size", "drop"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


@dataclass(frozen=True)
class Contract:
    """At most `max_drop` points of accuracy lost, `max_latency` s, `max_energy` pJ and `max_size` bytes; what
    is not given is not bounded.

    Without labels a point is a hundredth of the samples whose class is no longer that of fp32. `budget` are
    the seconds that searching and compiling may take together, None for as long as it finds better plans.
    """

    minimize: Quantity = "latency"
    max_drop: float | None = None
    max_latency: float | None = None
    max_energy: float | None = None
    max_size: int | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.minimize not in QUANTITIES:
            raise ValueError(f"minimize one of {', '.join(QUANTITIES)}, got {self.minimize!r}")
        for name, value in self.bounds().items():
            if name == "drop" and not 0 <= value < inf:
                raise ValueError(f"a bound on the drop is a number of points, 0 or more, got {value:g}")
            if name != "drop" and not 0 < value < inf:
                raise ValueError(f"a bound on the {name} is a number above 0, got {value:g}")
        if self.budget is not None and not 0 < self.budget < inf:
            raise ValueError(f"a budget is a number of seconds above 0, got {self.budget:g}")
        if self.minimize == "drop" and not self.bounds().keys() - {"drop"}:
            raise ValueError(
                "the least drop is that of the plan that compresses nothing: bound latency, energy or size"
            )

    def bounds(self) -> dict[Quantity, float]:
        """The bounds that are given, by quantity."""
        bounds: dict[Quantity, float | None] = {
            "latency": self.max_latency,
            "energy": self.max_energy,
            "size": self.max_size,
            "drop": self.max_drop,
        }
        return {name: value for name, value in bounds.items() if value is not None}

    def broken(self, cost: Cost, drop: float) -> dict[Quantity, float]:
        """The bounds that a plan does not keep, and how many times it takes what they allow.

        A drop is that many times the bound or, of a bound of 0 points, one more than the points lost.
        """
        taken = {"latency": cost.seconds, "energy": cost.energy, "size": float(cost.size), "drop": drop}
        return {
            name: taken[name] / bound if bound else 1.0 + taken[name]
            for name, bound in self.bounds().items()
            if taken[name] > bound
        }


def quantity_of(cost: Cost, drop: float, quantity: Quantity) -> float:
    """What a plan takes of a quantity: s, pJ, pJ s, bytes, or points."""
    match quantity:
        case "latency":
            return cost.seconds
        case "energy":
            return cost.energy
        case "edp":
            return cost.seconds * cost.energy
        case "size":
            return float(cost.size)
        case "drop":
            return drop
