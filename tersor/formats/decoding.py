"""Decoding: the steps from the stored arrays of a weight back to it, each as numpy computes it.

unpack  ->  sign, power, look-up or floating point  ->  place  ->  scale groups  ->  arrange as the weight

`tersor.ir.decoders` has a PrimFunc for each of them with the same bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tersor.formats.bits import unpack_bits
from tersor.formats.matrix import weight_of

Array = NDArray[Any]


@dataclass(frozen=True)
class Unpack:
    """(uint8 [K, bytes]) -> codes int8 or uint8 [K, count] (`bits.unpack_bits`)."""

    bits: int
    count: int
    signed: bool
    name: ClassVar[str] = "unpack"

    def run(self, packed: Array) -> Array:
        """Compute the step."""
        return unpack_bits(packed, self.bits, self.count, self.signed)


@dataclass(frozen=True)
class Signs:
    """(uint8 0 or 1) -> int8 -1 or 1."""

    name: ClassVar[str] = "signs"

    def run(self, codes: Array) -> Array:
        """Compute the step."""
        return (2 * codes.astype(np.int8) - 1).astype(np.int8)


@dataclass(frozen=True)
class Powers:
    """(int8 -7 to 7) -> int8: 0, or the sign times 2^(magnitude - 1)."""

    name: ClassVar[str] = "powers"

    def run(self, codes: Array) -> Array:
        """Compute the step."""
        wide = codes.astype(np.int32)
        return (np.sign(wide) * ((1 << np.abs(wide)) >> 1)).astype(np.int8)


@dataclass(frozen=True)
class LookUp:
    """(uint8 indices, table [entries]) -> the table's numbers."""

    name: ClassVar[str] = "look_up"

    def run(self, indices: Array, table: Array) -> Array:
        """Compute the step."""
        return table[indices]


@dataclass(frozen=True)
class Minifloat:
    """(patterns uint8 or uint16: sign, `exponent` bits, `mantissa` bits) -> float32.

    The biased exponent and the mantissa are moved to their places in a float32, whose bias is larger: what is
    missing is one multiplication, which is exact and right for subnormal numbers, too. Infinities and NaNs
    are not stored.
    """

    exponent: int
    mantissa: int
    name: ClassVar[str] = "minifloat"

    @property
    def factor(self) -> float:
        """Two to the power of the difference of the biases."""
        return 2.0 ** (127 - (2 ** (self.exponent - 1) - 1))

    def run(self, patterns: Array) -> Array:
        """Compute the step."""
        width = self.exponent + self.mantissa
        wide = patterns.astype(np.uint32)
        magnitude = (wide & np.uint32((1 << width) - 1)) << np.uint32(23 - self.mantissa)
        scaled = magnitude.view(np.float32) * np.float32(self.factor)
        return (scaled.view(np.uint32) | (wide >> np.uint32(width)) << np.uint32(31)).view(np.float32)


@dataclass(frozen=True)
class Exponents:
    """(uint8 e) -> float32 2^(e - bias), a normal number."""

    bias: int
    name: ClassVar[str] = "exponents"

    def run(self, codes: Array) -> Array:
        """Compute the step."""
        return ((codes.astype(np.uint32) + np.uint32(127) - np.uint32(self.bias)) << np.uint32(23)).view(
            np.float32
        )


@dataclass(frozen=True)
class ScaleGroups:
    """(int8 or float32 [K, n], int8 or float32 [K, groups]) -> int8 [K, n] if both are, else float32."""

    group: int
    name: ClassVar[str] = "scale_groups"

    def run(self, codes: Array, scales: Array) -> Array:
        """Compute the step."""
        spread = np.repeat(scales, self.group, axis=1)[:, : codes.shape[1]]
        return codes.astype(spread.dtype) * spread


@dataclass(frozen=True)
class PlaceNM:
    """(values [K, kept], positions uint8 [K, kept]) -> [K, kept / n * m]: `n` in every `m` columns."""

    n: int
    m: int
    name: ClassVar[str] = "place_nm"

    def run(self, values: Array, positions: Array) -> Array:
        """Compute the step."""
        rows, kept = values.shape
        groups = np.zeros((rows, kept // self.n, self.m), values.dtype)
        shape = (rows, kept // self.n, self.n)
        np.put_along_axis(groups, positions.reshape(shape).astype(np.int64), values.reshape(shape), axis=2)
        return groups.reshape(rows, -1)


@dataclass(frozen=True)
class PlaceBitmap:
    """(values [1, entries], mask uint8 0 or 1 [K, n], first value of each row int32 [K]) -> [K, n]."""

    name: ClassVar[str] = "place_bitmap"

    def run(self, values: Array, mask: Array, starts: Array) -> Array:
        """Compute the step."""
        order = starts[:, None] + np.cumsum(mask, axis=1, dtype=np.int32) - 1
        return np.where(mask, values[0][np.maximum(order, 0)], values.dtype.type(0))


@dataclass(frozen=True)
class PlaceRelative:
    """(values [1, entries], gaps uint8 [1, entries], first entry of each row int32 [K + 1]) -> [K, columns].

    A gap is the number of columns between an entry and the one before it in the row.
    """

    columns: int
    name: ClassVar[str] = "place_relative"

    def run(self, values: Array, gaps: Array, starts: Array) -> Array:
        """Compute the step."""
        placed = np.zeros((len(starts) - 1, self.columns), values.dtype)
        for row, (first, end) in enumerate(pairwise(starts)):
            columns = np.cumsum(gaps[0, first:end].astype(np.int64) + 1) - 1
            placed[row, columns] = values[0, first:end]
        return placed


@dataclass(frozen=True)
class PlaceBlocks:
    """(values [1, blocks * outputs * inputs], block columns uint16 [blocks], starts int32) -> [K, columns].

    `starts` has the first block of each row of blocks, [K / outputs + 1]; a block's values lie row by row.
    """

    outputs: int
    inputs: int
    columns: int
    name: ClassVar[str] = "place_blocks"

    def run(self, values: Array, places: Array, starts: Array) -> Array:
        """Compute the step."""
        shape = (len(starts) - 1, self.columns // self.inputs, self.outputs, self.inputs)
        placed = np.zeros(shape, values.dtype)
        blocks = values.reshape(-1, self.outputs, self.inputs)
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        placed[rows, places[: len(rows)]] = blocks[: len(rows)]
        return placed.transpose(0, 2, 1, 3).reshape(-1, self.columns)


@dataclass(frozen=True)
class Arrange:
    """(matrix [K, n]) -> the weight in its own shape (`matrix.weight_of`)."""

    shape: tuple[int, ...]
    axis: int
    name: ClassVar[str] = "arrange"

    def run(self, matrix: Array) -> Array:
        """Compute the step."""
        return weight_of(matrix, self.shape, self.axis)


Step = (
    Unpack
    | Signs
    | Powers
    | LookUp
    | Minifloat
    | Exponents
    | ScaleGroups
    | PlaceNM
    | PlaceBitmap
    | PlaceRelative
    | PlaceBlocks
    | Arrange
)


@dataclass(frozen=True)
class Decode:
    """One step of a chain: which arrays, stored or made before, it reads, and what its result is called."""

    step: Step
    reads: tuple[str, ...]
    result: str


_KINDS: dict[str, Callable[..., Step]] = {
    kind.name: kind
    for kind in (
        Unpack, Signs, Powers, LookUp, Minifloat, Exponents, ScaleGroups, PlaceNM, PlaceBitmap, PlaceRelative,
        PlaceBlocks, Arrange,
    )
}  # fmt: skip


def step_document(step: Step) -> dict[str, Any]:
    """Give a step as what JSON has: its name as `operator`, and its fields."""
    return {"operator": step.name, **asdict(step)}


def parse_step(document: Mapping[str, Any]) -> Step | None:
    """Read what `step_document` gives, lists for tuples allowed; None for another operator's document."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    kind = _KINDS.get(fields.pop("operator", ""))
    return None if kind is None else kind(**fields)
