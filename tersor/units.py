"""Quantities with their units, as documents write them: "512 KiB", "25.6 GB/s", "0.2 pJ", "1 GHz"."""

import math
import re
from decimal import Decimal
from math import log10
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_DECIMAL = {"": 1e0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

_SIZES = {f"{prefix}B": factor for prefix, factor in (_DECIMAL | _BINARY).items()}
_BANDWIDTHS = {f"{unit}/s": factor for unit, factor in _SIZES.items()}
_FREQUENCIES = {f"{prefix}Hz": factor for prefix, factor in _DECIMAL.items()}
_DURATIONS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_ENERGIES = {"fJ": 1e-3, "pJ": 1e0, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9, "J": 1e12}
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def prefixed(value: float, unit: str) -> tuple[float, str]:
    """Give a number with one to three digits before the point, and the unit with the prefix for that."""
    power = 3 * int((log10(abs(value)) + 5e-4) // 3) if value else 0  # 999.6 is 1.00 thousand
    least = 0 if unit == "B" else min(_PREFIXES)  # there are no parts of a byte
    power = min(max(power, least), max(_PREFIXES))
    return value / 10.0**power, f"{_PREFIXES[power]}{unit}"


def _quantity(text: object, units: dict[str, float], example: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*(\S+)", str(text).strip())
    if not isinstance(text, str) or not found:
        raise ValueError(f"write a number with its unit, as in {example!r}, got {text!r}")
    unit = found[2].replace("µ", "u")
    if unit not in units:
        raise ValueError(f"unknown unit {found[2]!r} in {text!r}; one of {', '.join(units)} is expected")
    value = float(Decimal(found[1]) * Decimal(repr(units[unit])))  # 12.5 us are exactly 1.25e-05 s
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return value


def parse_bytes(text: object) -> int:
    """Read a size in bytes. Raises ValueError."""
    value = _quantity(text, _SIZES, "512 KiB")
    if value != int(value):
        raise ValueError(f"{text!r} is {value:g} bytes; a size is a whole number of bytes")
    return int(value)


def parse_bandwidth(text: object) -> float:
    """Read a bandwidth in bytes per second. Raises ValueError."""
    return _quantity(text, _BANDWIDTHS, "25.6 GB/s")


def parse_frequency(text: object) -> float:
    """Read a frequency in Hz. Raises ValueError."""
    return _quantity(text, _FREQUENCIES, "1 GHz")


def parse_energy(text: object) -> float:
    """Read an energy in pJ. Raises ValueError."""
    return _quantity(text, _ENERGIES, "0.2 pJ")


def parse_duration(text: object) -> float:
    """Read a time in seconds. Raises ValueError."""
    return _quantity(text, _DURATIONS, "90 s")


Bytes = Annotated[int, BeforeValidator(parse_bytes), PlainSerializer("{} B".format)]
BytesPerSecond = Annotated[float, BeforeValidator(parse_bandwidth), PlainSerializer("{!r} B/s".format)]
Hertz = Annotated[float, BeforeValidator(parse_frequency), PlainSerializer("{!r} Hz".format)]
Picojoules = Annotated[float, BeforeValidator(parse_energy), PlainSerializer("{!r} pJ".format)]
