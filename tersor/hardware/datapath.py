"""Datapath: how one unit of an array multiplies numbers of some bits, and what it does about zeros."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from tersor.layer import Dim, Operand

Factor = Literal["weight", "input"]


@dataclass(frozen=True)
class Datapath:
    """What each unit does in a cycle with integers; other number formats have their own rate in `compute`.

    A unit makes `macs_per_unit` products of `word` bits. How many it makes of fewer bits is its `mode`:

    fixed         as many
    packed        floor(word / bits) times as many, `bits` those of the wider factor
    bit_serial    word / bits times as many: the factor `serial` comes bit after bit (Stripes, MICRO 2016)
    bit_brick     bricks of `brick` x `brick` bits are put together as the factors need it, each factor
                  rounded up to a power of two of bricks (Bit Fusion, ISCA 2018); of more bits, fewer

    Where a unit makes several products in place of one, these are neighbours along the dimension `fuses`, if
    it is given, and have one sum: as many as there are in a tile of the innermost memory, else zeros.

    A product with a zero of an operand in `gates` takes its cycle and no energy; of one in `skips` neither. A
    `skew` along axes delays the first result of a pass by the size of each less one, and what stays in place
    during a pass (`stationary`) is shifted in along the axes `loads`, which takes their size each.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Literal["fixed", "packed", "bit_serial", "bit_brick"] = "fixed"
    word: int = 8
    macs_per_unit: float = 1.0
    serial: Factor = "input"
    brick: int = 2
    fuses: Dim | None = None
    accumulator: int = 32  # bits of a partial sum
    gates: tuple[Factor, ...] = ()
    skips: tuple[Factor, ...] = ()
    skew: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    stationary: Operand | None = None

    def __post_init__(self) -> None:
        if self.word < 1 or self.accumulator < 1 or self.brick < 1:
            sizes = f"{self.word}, {self.accumulator} and {self.brick}"
            raise ValueError(f"word, accumulator and brick need at least 1 bit each, got {sizes}")
        if self.mode == "bit_brick" and self.word % self.brick:
            raise ValueError(f"a word of {self.word} bits is not made of bricks of {self.brick} bits")
        if self.fuses and self.mode == "fixed":
            raise ValueError(f"a fixed datapath has no products to fuse along {self.fuses}; remove fuses")
        if not self.macs_per_unit > 0:
            raise ValueError(f"a unit makes more than 0 products in a cycle, got {self.macs_per_unit}")
        if both := set(self.gates) & set(self.skips):
            raise ValueError(f"zeros of the {min(both)} are gated or skipped, not both; remove one")
        if (self.skew or self.loads) and self.stationary is None:
            raise ValueError("skew and loads are for each pass; say which operand is stationary in one")

    def macs(self, weight_bits: int, input_bits: int) -> float:
        """Products of one unit in a cycle, of factors of these bits; below 1 if one takes several cycles.

        Raises ValueError where the unit cannot multiply them.
        """
        if reason := self.why_not(weight_bits, input_bits):
            raise ValueError(reason)
        match self.mode:
            case "fixed":
                return self.macs_per_unit
            case "packed":
                return self.macs_per_unit * (self.word // max(weight_bits, input_bits))
            case "bit_serial":
                bits = weight_bits if self.serial == "weight" else input_bits
                return self.macs_per_unit * self.word / bits
            case "bit_brick":
                whole = self._bricks(self.word) ** 2
                return self.macs_per_unit * whole / (self._bricks(weight_bits) * self._bricks(input_bits))

    def fused(self, weight_bits: int, input_bits: int) -> float:
        """How many products a unit makes in place of one along `fuses`; 1 if it does not matter which."""
        if self.fuses is None:
            return 1.0
        return max(1.0, self.macs(weight_bits, input_bits) / self.macs_per_unit)

    def why_not(self, weight_bits: int, input_bits: int) -> str | None:
        """Say why a unit cannot multiply factors of these bits, or None if it can."""
        if self.mode != "bit_brick" and max(weight_bits, input_bits) > self.word:
            return f"its units multiply up to {self.word} bits, not {weight_bits} by {input_bits}"
        return None

    def _bricks(self, bits: int) -> int:
        """Bricks along one side: the power of two that covers `bits`."""
        return 1 << (-(-bits // self.brick) - 1).bit_length()
