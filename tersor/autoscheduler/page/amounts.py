"""Amounts: quantities in words, with the unit's prefix that leaves one to three digits before the point."""

from math import log10

from tersor.scheduler.contract import Quantity
from tersor.units import prefixed

NAMES: dict[Quantity, str] = {
    "latency": "latency",
    "energy": "energy",
    "edp": "energy × delay",
    "size": "size",
    "drop": "accuracy lost",
}
_UNITS: dict[Quantity, tuple[str, float]] = {  # and what a number of the quantity is of it
    "latency": ("s", 1.0),
    "energy": ("J", 1e-12),
    "edp": ("J s", 1e-12),
    "size": ("B", 1.0),
}


def name_of(quantity: Quantity, has_labels: bool) -> str:
    """What a quantity is called: without labels it is agreement with fp32 that is lost, not accuracy."""
    return "agreement lost" if quantity == "drop" and not has_labels else NAMES[quantity]


def amount(quantity: Quantity, value: float) -> str:
    """Write a quantity with its unit: 1.25 ms, 30.1 µJ, 12 kB, 0.42 points."""
    if quantity == "drop":
        return f"{value:.2f} {'point' if abs(value) == 1 else 'points'}"
    number, unit = scaled(quantity, value)
    digits = 0 if abs(number) >= 99.95 or unit == "B" else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f} {unit}" if number else f"0 {unit}"


def known_amount(quantity: Quantity, value: float) -> str:
    """Write a quantity that is not known where it is 0."""
    return amount(quantity, value) if value or quantity == "drop" else "–"


def scaled(quantity: Quantity, value: float) -> tuple[float, str]:
    """Give a number with one to three digits before the point, and the unit that it is of; of no drop."""
    unit, factor = _UNITS[quantity]
    return prefixed(value * factor, unit)


def duration(seconds: float) -> str:
    """Write a time as people say it: 40 ms, 0.5 s, 12.1 s, 4 min 54 s."""
    if 0 < seconds < 0.1:
        return f"{1e3 * seconds:.3g} ms"
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def decibels(loss: float) -> float | None:
    """The signal-to-noise ratio of a loss, None where there is no noise."""
    return -10 * log10(loss) if loss else None


def ratio_decibels(loss: float) -> str:
    """Write a loss as a signal-to-noise ratio."""
    ratio = decibels(loss)
    return "exact" if ratio is None else f"{ratio:.1f} dB"


def percent(share: float) -> str:
    """Write a part of a whole."""
    return "0 %" if share == 0 else f"{100 * share:.{2 if abs(share) < 0.01 else 1}f} %"


def compared(value: float, other: float, name: str) -> str:
    """Say how much less or more a value is than that of `name`; nothing where one is not known."""
    if not (value and other):
        return ""
    change = 100 * (value / other - 1)
    if abs(change) < 0.05:
        return f"as {name}"
    if change >= 100:
        return f"{value / other:.3g} times {name}"
    return f"{abs(change):.{1 if abs(change) < 10 else 0}f} % {'less' if change < 0 else 'more'} than {name}"


def many(count: int) -> str:
    """Write a number of things that may be astronomical."""
    if count < 10**6:
        return f"{count:,}"
    power = len(str(count)) - 1
    raised = str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{count // 10 ** (power - 1) / 10} × 10{raised}"


def count_of(count: int, noun: str) -> str:
    """Write a number of things: 1 layer, 24 layers."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
