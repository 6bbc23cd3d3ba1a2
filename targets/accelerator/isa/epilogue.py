"""Epilogue: what becomes of complete sums on their way into the outermost memory.

The vector unit does it, one element at a time, as `tersor.arithmetic` says: a bias is added, and the sum is
brought to 8-bit codes (perhaps with a residual), brought to float32, or left as it is.
"""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from pydantic import ConfigDict

Bounds = tuple[int, int]
UINT8: Bounds = (0, 255)


@dataclass(frozen=True)
class Residual:
    """A uint8 tensor of the output's shape that is added (`arithmetic.requantize_add`)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    multiplier: float
    zero_point: int

    def __post_init__(self) -> None:
        check_multipliers(self.multiplier)
        check_codes(self.zero_point)


@dataclass(frozen=True)
class Requantize:
    """To uint8 codes by a float32 multiplier for each output channel (`arithmetic.requantize`).

    A code takes `bits` where it is moved and stored, by default as many as one of the layer's input.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    zero_point: int
    bounds: Bounds = UINT8
    residual: Residual | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        check_codes(self.zero_point, *self.bounds)
        if self.bits is not None and not max(self.bounds) < 1 << self.bits <= 256:
            raise ValueError(f"codes up to {max(self.bounds)} of 8 bits or fewer do not take {self.bits}")


@dataclass(frozen=True)
class Rescale:
    """To float32 by a multiplier for each output channel (`arithmetic.rescale_accumulator`)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Sums:
    """Int32 sums with their bias, as they are."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


Epilogue = Requantize | Rescale | Sums


def check_multipliers(*multipliers: float) -> None:
    """Raise ValueError for a multiplier that no scale gives."""
    if not all(map(isfinite, multipliers)):
        raise ValueError(f"a multiplier is a finite number, got {multipliers}")


def check_codes(*codes: int) -> None:
    """Raise ValueError for a zero point or a bound that is no uint8 code."""
    if not all(0 <= code <= 255 for code in codes):
        raise ValueError(f"zero points and bounds are codes from 0 to 255, got {codes}")
