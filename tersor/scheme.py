"""Scheme: how one layer's weight is compressed, and the precision of the layer's input.

A scheme is a product: at most one choice of each kind, applied in the order of the fields: factor, thin,
round. Its text is short enough to edit by hand::

    fp32            nothing is compressed
    int8            8-bit weights and 8-bit inputs
    int8+2:4        the same, two weights kept of every four
    int8+rank16     the same, the weight factored into two of rank 16
    int8+dynamic    the same, the range of the input found anew for each row while it runs
    w4a8, w8a32     weights and inputs of different widths (32 is float32)
"""

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class LowRank:
    """A weight [C, K] as the product of [C, rank] and [rank, K]."""

    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"a low-rank factorization needs a rank of at least 1, got {self.rank}")

    def __str__(self) -> str:
        return f"rank{self.rank}"


@dataclass(frozen=True)
class NM:
    """At most `n` of every `m` weights that follow one another along the input channels are not zero."""

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise ValueError(f"N:M sparsity needs 0 < n < m, got {self.n}:{self.m}")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"2:4"`. Raises ValueError."""
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if not found:
            raise ValueError(f"{text!r} is no N:M sparsity; write it as in 2:4")
        return cls(int(found[1]), int(found[2]))

    @property
    def density(self) -> float:
        """The fraction of the weights that is kept."""
        return self.n / self.m


@dataclass(frozen=True)
class Integer:
    """Numbers as integers of `bits` bits with a scale."""

    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"an integer needs 2 to 16 bits, got {self.bits}")

    def __str__(self) -> str:
        return f"int{self.bits}"


@dataclass(frozen=True)
class Scheme:
    """The compression of one layer; a field that is None leaves the float32 numbers as they are."""

    low_rank: LowRank | None = None
    sparsity: NM | None = None
    quantization: Integer | None = None
    input: Integer | None = None
    dynamic: bool = False

    def __post_init__(self) -> None:
        if self.input and not self.quantization:
            raise ValueError(f"an {self.input} input needs integer weights; give quantization as well")
        if self.dynamic and not self.input:
            raise ValueError("a dynamic range is that of an integer input; give input as well")

    def __str__(self) -> str:
        parts = [self._precision_text()]
        parts += [str(part) for part in (self.low_rank, self.sparsity) if part]
        parts += ["dynamic"] if self.dynamic else []
        return "+".join(parts)

    def _precision_text(self) -> str:
        if not self.quantization:
            return "fp32"
        if self.quantization == self.input:
            return str(self.quantization)
        return f"w{self.quantization.bits}a{self.input.bits if self.input else 32}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes. Raises ValueError naming the part that is not understood."""
        precision, *others = text.split("+")
        quantization, input = _parse_precision(precision, text)
        low_rank: LowRank | None = None
        sparsity: NM | None = None
        dynamic = False
        for part in others:
            if found := re.fullmatch(r"rank(\d+)", part):
                _refuse_second(low_rank, "low-rank factorization", text)
                low_rank = LowRank(int(found[1]))
            elif part == "dynamic":
                _refuse_second(dynamic or None, "dynamic range", text)
                dynamic = True
            elif ":" in part:
                _refuse_second(sparsity, "sparsity", text)
                sparsity = NM.parse(part)
            else:
                raise ValueError(f"{part!r} in {text!r} is no sparsity (2:4), rank (rank16) or dynamic")
        return cls(low_rank, sparsity, quantization, input, dynamic)

    @property
    def compute(self) -> str:
        """The precision of the products: `int8`, ..., or `fp32` if the input stays float."""
        if not (self.quantization and self.input):
            return "fp32"
        return f"int{max(self.quantization.bits, self.input.bits)}"

    @property
    def weight_bits(self) -> int:
        """Bits of one stored weight."""
        return self.quantization.bits if self.quantization else 32

    @property
    def input_bits(self) -> int:
        """Bits of one element of the layer's input."""
        return self.input.bits if self.input else 32


def _parse_precision(text: str, whole: str) -> tuple[Integer | None, Integer | None]:
    if text == "fp32":
        return None, None
    if found := re.fullmatch(r"int(\d+)", text):
        return Integer(int(found[1])), Integer(int(found[1]))
    if found := re.fullmatch(r"w(\d+)a(\d+)", text):
        weight, input = int(found[1]), int(found[2])
        return Integer(weight), None if input == 32 else Integer(input)
    raise ValueError(f"{whole!r} is no scheme: it must begin with fp32, int8 or w4a8, as in int8+2:4")


def _refuse_second(first: object, kind: str, whole: str) -> None:
    if first:
        raise ValueError(f"{whole!r} names two of the kind {kind}; a scheme has at most one")


FP32 = Scheme()
W8A32 = Scheme(quantization=Integer(8))
INT8 = Scheme(quantization=Integer(8), input=Integer(8))
