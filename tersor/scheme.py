"""Scheme: how one layer's weight is compressed, and the precision of the layer's input.

A scheme is a product: at most one choice of each kind, applied in the order of the fields: factor, thin,
round. Its text is short enough to edit by hand::

    fp32            nothing is compressed
    int8            8-bit weights and 8-bit inputs
    int8+2:4        the same, two weights kept of every four
    int8+rank16     the same, the weight factored into two of rank 16
    int8+dynamic    the same, the range of the input found anew for each row while it runs
    w4a8, w8a32     weights and inputs of different widths (32, or nothing, is float32)
    w4g64           4-bit weights with a scale for every 64, the input stays float32
    ternary-a8      weights of -1, 0, 1 and 8-bit inputs

`tersor.weight_format`, `tersor.sparsity` and `tersor.factor` list the parts.
"""

from dataclasses import dataclass
from typing import Self

from tersor.factor import Factor, parse_factor
from tersor.sparsity import Sparsity, parse_sparsity
from tersor.weight_format import Integer, WeightFormat, has_integer_codes, parse_precision, precision_text


@dataclass(frozen=True)
class Scheme:
    """The compression of one layer; a field that is None leaves the float32 numbers as they are."""

    factor: Factor | None = None
    sparsity: Sparsity | None = None
    weight: WeightFormat | None = None
    input: Integer | None = None
    dynamic: bool = False

    def __post_init__(self) -> None:
        if self.input and not self.weight:
            raise ValueError(f"an {self.input} input needs integer weights; give weight as well")
        if self.input and self.weight and not has_integer_codes(self.weight):
            raise ValueError(f"an {self.input} input needs integer weights, {self.weight} are none")
        if self.dynamic and not self.input:
            raise ValueError("a dynamic range is that of an integer input; give input as well")

    def __str__(self) -> str:
        parts = [precision_text(self.weight, self.input)]
        parts += [str(part) for part in (self.factor, self.sparsity) if part]
        parts += ["dynamic"] if self.dynamic else []
        return "+".join(parts)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes. Raises ValueError naming the part that is not understood."""
        precision, *others = text.split("+")
        formats = parse_precision(precision)
        if formats is None:
            raise ValueError(f"{text!r} is no scheme: it must begin with fp32, int8 or w4a8, as in int8+2:4")
        factor: Factor | None = None
        sparsity: Sparsity | None = None
        dynamic = False
        for part in others:
            if found := parse_factor(part):
                _refuse_second(factor, "low-rank factorization", text)
                factor = found
            elif part == "dynamic":
                _refuse_second(dynamic or None, "dynamic range", text)
                dynamic = True
            elif thinned := parse_sparsity(part):
                _refuse_second(sparsity, "sparsity", text)
                sparsity = thinned
            else:
                raise ValueError(f"{part!r} in {text!r} is no sparsity (2:4), rank (rank16) or dynamic")
        return cls(factor, sparsity, *formats, dynamic)

    @property
    def compute(self) -> str:
        """The precision of the products: `int8`, ..., or `fp32` if the input stays float."""
        if not (self.weight and self.input):
            return "fp32"
        # Weights that are no plain integers meet the input as int8 codes.
        bits = self.weight.bits if isinstance(self.weight, Integer) else 8
        return f"int{max(bits, self.input.bits)}"

    @property
    def weight_bits(self) -> int:
        """Bits of one stored weight."""
        return self.weight.bits if self.weight else 32

    @property
    def input_bits(self) -> int:
        """Bits of one element of the layer's input."""
        return self.input.bits if self.input else 32


def _refuse_second(first: object, kind: str, whole: str) -> None:
    if first:
        raise ValueError(f"{whole!r} names two of the kind {kind}; a scheme has at most one")


FP32 = Scheme()
W8A32 = Scheme(weight=Integer(8))
INT8 = Scheme(weight=Integer(8), input=Integer(8))
