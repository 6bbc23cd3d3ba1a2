"""Figures: what the additive model says of a policy, a number for each quantity.

A drop of accuracy is measured, never modelled; what the model has in its place is the loss.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Context
from types import MappingProxyType
from typing import Literal, get_args

from tersor.cost import Cost
from tersor.scheduler.contract import Contract, Quantity, quantity_of
from tersor.units import prefixed

# s, pJ, pJ s, bytes, and the noise power over the signal power of the worst output.
Figure = Literal["latency", "energy", "edp", "size", "loss"]
FIGURES: tuple[Figure, ...] = get_args(Figure)
# Those that are sums over the choices; the product of time and energy is of two sums.
ADDITIVE: tuple[Figure, ...] = ("latency", "energy", "size", "loss")

Limits = Mapping[Figure, float]  # at most this much of a figure
NO_LIMITS: Limits = MappingProxyType({})

_UNITS: dict[Figure, tuple[str, int]] = {  # and what power of ten a number of the figure is of it
    "latency": ("s", 0),
    "energy": ("J", -12),
    "edp": ("J s", -12),
    "size": ("B", 0),
}


def modelled(quantity: Quantity) -> Figure:
    """The figure that stands for a quantity: itself, or the loss for the drop."""
    return "loss" if quantity == "drop" else quantity


def limits_of(contract: Contract) -> dict[Figure, float]:
    """The bounds of a contract that the model can keep: all but that on the drop."""
    return {modelled(name): value for name, value in contract.bounds().items() if name != "drop"}


def figure_of(cost: Cost, loss: float, figure: Figure) -> float:
    """What a cost and a loss come to."""
    return loss if figure == "loss" else quantity_of(cost, 0.0, figure)


def figure_text(figure: Figure, value: float) -> str:
    """A value with its unit, as 1.25 ms, rounded up to four digits: as a limit it can be kept."""
    rounded = Context(prec=4, rounding=ROUND_CEILING).create_decimal(repr(float(value)))
    if figure not in _UNITS:
        return f"{float(rounded):.4g}"
    unit, power = _UNITS[figure]
    number, unit = prefixed(float(rounded.scaleb(power)), unit)
    return f"{number:.4g} {unit}"
