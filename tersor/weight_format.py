"""Weight format: the numbers that one stored weight may be, and how many bits it takes.

int8, w4, w3, w2    signed integers with a scale for each output channel
w4g64               the same, a scale for every 64 weights along the sum
ternary, binary     -1, 0, 1 and -1, 1 times a scale
codebook4           one of 16 values, found by k-means
pot4                a sign and a power of two in 4 bits, times a scale
fp16, bf16          half precision
e4m3, e5m2          8-bit floating point (Micikevicius et al., FP8 Formats for Deep Learning, 2022)
mxfp4, mxint8       blocks of 32 with a power of two in common (OCP Microscaling Formats 1.0, 2023)
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

MX_BLOCK = 32


@dataclass(frozen=True)
class Integer:
    """Numbers as integers of `bits` bits with a scale: one per output channel, or one per `group` weights."""

    bits: int = 8
    group: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"an integer needs 2 to 16 bits, got {self.bits}")
        _check_group(self.group)

    def __str__(self) -> str:
        return f"w{self.bits}{_group_text(self.group)}" if self.group else f"int{self.bits}"


@dataclass(frozen=True)
class Ternary:
    """-1, 0 or 1, times a scale (Li and Liu, Ternary Weight Networks, 2016)."""

    group: int | None = None
    bits: Literal[2] = 2

    def __post_init__(self) -> None:
        _check_group(self.group)

    def __str__(self) -> str:
        return f"ternary{_group_text(self.group)}"


@dataclass(frozen=True)
class Binary:
    """-1 or 1, times a scale (Rastegari et al., XNOR-Net, ECCV 2016)."""

    group: int | None = None
    bits: Literal[1] = 1

    def __post_init__(self) -> None:
        _check_group(self.group)

    def __str__(self) -> str:
        return f"binary{_group_text(self.group)}"


@dataclass(frozen=True)
class Codebook:
    """One of 2^bits values of the layer, found by k-means (Han et al., Deep Compression, ICLR 2016)."""

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"a codebook has indices of 1 to 8 bits, got {self.bits}")

    def __str__(self) -> str:
        return f"codebook{self.bits}"


@dataclass(frozen=True)
class PowerOfTwo:
    """0 or a sign and a power of two: 2^bits - 1 values, times a scale (Zhou et al., INQ, ICLR 2017)."""

    bits: int
    group: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 4:
            raise ValueError(f"powers of two take 2 to 4 bits, got {self.bits}")
        _check_group(self.group)

    def __str__(self) -> str:
        return f"pot{self.bits}{_group_text(self.group)}"


@dataclass(frozen=True)
class Float:
    """A floating-point number of fewer bits, without a scale but for those of 8 bits: one per channel."""

    name: Literal["fp16", "bf16", "e4m3", "e5m2"]

    def __post_init__(self) -> None:
        if self.name not in FLOATS:
            raise ValueError(f"a floating-point weight is one of {', '.join(FLOATS)}, got {self.name!r}")

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        """Bits of one weight."""
        return 16 if self.name in ("fp16", "bf16") else 8


@dataclass(frozen=True)
class Microscaling:
    """Blocks of 32 neighbours along the sum with one 8-bit exponent: E2M1 or 8-bit elements."""

    name: Literal["mxfp4", "mxint8"]

    def __post_init__(self) -> None:
        if self.name not in MICROSCALINGS:
            raise ValueError(f"a microscaling format is one of {', '.join(MICROSCALINGS)}, got {self.name!r}")

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        """Bits of one weight without its share of the exponent."""
        return 4 if self.name == "mxfp4" else 8


WeightFormat = Integer | Ternary | Binary | Codebook | PowerOfTwo | Float | Microscaling
FLOATS = ("fp16", "bf16", "e4m3", "e5m2")
MICROSCALINGS = ("mxfp4", "mxint8")


def has_integer_codes(weight: WeightFormat) -> bool:
    """Whether the values of an output channel are integers times one scale, so that int8 kernels take them.

    In groups the integers are those of the format times a small integer of the group (VS-Quant, Dai et al.,
    MLSys 2021), so that every product with an integer input stays exact.
    """
    return not isinstance(weight, Float | Microscaling)


def without_groups(weight: WeightFormat) -> WeightFormat:
    """Give the format with one scale for each output channel."""
    match weight:
        case Integer() | Ternary() | Binary() | PowerOfTwo():
            return replace(weight, group=None)
        case _:
            return weight


def parse_precision(text: str) -> tuple[WeightFormat | None, Integer | None] | None:
    """Read the format of the weight and of the input; None if the text names none.

    Raises ValueError for numbers out of range.
    """
    if text == "fp32":
        return None, None
    if found := re.fullmatch(r"int(\d+)", text):
        return Integer(int(found[1])), Integer(int(found[1]))
    if found := re.fullmatch(r"w(\d+)(?:g(\d+))?(?:a(\d+))?", text):
        return Integer(int(found[1]), _number(found[2])), _input(found[3])
    if text in FLOATS:
        return Float(text), None
    if text in MICROSCALINGS:
        return Microscaling(text), None
    if found := re.fullmatch(r"(ternary|binary)(?:g(\d+))?(?:-a(\d+))?", text):
        kind = Ternary if found[1] == "ternary" else Binary
        return kind(_number(found[2])), _input(found[3])
    if found := re.fullmatch(r"codebook(\d+)(?:-a(\d+))?", text):
        return Codebook(int(found[1])), _input(found[2])
    if found := re.fullmatch(r"pot(\d+)(?:g(\d+))?(?:-a(\d+))?", text):
        return PowerOfTwo(int(found[1]), _number(found[2])), _input(found[3])
    return None


def precision_text(weight: WeightFormat | None, input: Integer | None) -> str:
    """Write what `parse_precision` reads."""
    if weight is None:
        return "fp32"
    if isinstance(weight, Integer):
        if weight == input:
            return str(weight)
        return f"w{weight.bits}{_group_text(weight.group)}a{input.bits if input else 32}"
    return f"{weight}-a{input.bits}" if input else str(weight)


def _input(text: str | None) -> Integer | None:
    return None if text in (None, "32") else Integer(int(text))


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _check_group(group: int | None) -> None:
    if group is not None and group < 2:
        raise ValueError(f"a group has at least 2 weights, got {group}")


def _group_text(group: int | None) -> str:
    return "" if group is None else f"g{group}"
