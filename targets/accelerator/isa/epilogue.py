"""Epilogue: what becomes of complete sums on their way into the outermost memory.

The vector unit does it, one element at a time, as `tersor.arithmetic` says: a bias is added, and the sum is
brought to 8-bit codes (perhaps with a residual), brought to float32, or left as it is.
"""

from dataclasses import dataclass

Bounds = tuple[int, int]


@dataclass(frozen=True)
class Residual:
    """A uint8 tensor of the output's shape that is added (`arithmetic.requantize_add`)."""

    multiplier: float
    zero_point: int


@dataclass(frozen=True)
class Requantize:
    """To uint8 codes by a float32 multiplier for each output channel (`arithmetic.requantize`)."""

    zero_point: int
    bounds: Bounds = (0, 255)
    residual: Residual | None = None


@dataclass(frozen=True)
class Rescale:
    """To float32 by a multiplier for each output channel (`arithmetic.rescale_accumulator`)."""


@dataclass(frozen=True)
class Sums:
    """Int32 sums with their bias, as they are."""


Epilogue = Requantize | Rescale | Sums
