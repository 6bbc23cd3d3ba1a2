"""Encode: store the weight of one layer in its format, and undo it.

matrix of numbers on a grid   ->   values, scales, table, positions, ...   ->   the same numbers, bit for bit
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.formats.bits import pack_bits
from tersor.formats.decoding import (
    Arrange,
    Decode,
    Exponents,
    LookUp,
    Minifloat,
    Powers,
    ScaleGroups,
    Signs,
    Step,
    Unpack,
)
from tersor.formats.grids import Grid, Matrix
from tersor.formats.levels import DTYPES
from tersor.formats.placement import Kept, place
from tersor.sparsity import Channels, Sparsity
from tersor.weight_format import Binary, Codebook, Float, Integer, Microscaling, PowerOfTwo, Ternary

Array = NDArray[Any]
EXPONENT_BITS = {"fp16": (5, 10), "bf16": (8, 7), "e4m3": (4, 3), "e5m2": (5, 2), "mxfp4": (2, 1)}
E8M0_BIAS = 127
MXINT8_FRACTION = 6


@dataclass(frozen=True, eq=False)
class Encoded:
    """The stored arrays of one weight by name ("values", "scales", ...), and the steps that decode them.

    `scale`, float32 [K], is that of integer codes; without it the decoded weight is float32.
    """

    shape: tuple[int, ...]  # of the weight
    axis: int  # of its output channels
    arrays: dict[str, Array]
    steps: tuple[Decode, ...]
    scale: NDArray[np.float32] | None = None
    kept: Kept | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        stored = sum(array.nbytes for array in self.arrays.values())
        return stored + (self.scale.nbytes if self.scale is not None else 0)

    @property
    def is_plain(self) -> bool:
        """Whether what is stored is the weight as its operator reads it, but for the order."""
        return all(isinstance(decode.step, Arrange) for decode in self.steps)

    def decode(self) -> Array:
        """Give the weight in its own shape: int8 codes if it has a `scale`, else float32."""
        known, last = dict(self.arrays), "values"
        for decode in self.steps:
            known[decode.result] = decode.step.run(*(known[name] for name in decode.reads))
            last = decode.result
        return known[last]

    def numbers(self) -> NDArray[np.float32]:
        """Give the numbers that the weight stands for, in its own shape."""
        weight = self.decode()
        if self.scale is None:
            return weight
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        return weight.astype(np.float32) * self.scale.reshape(shape)


def encode(
    values: Matrix, grid: Grid, sparsity: Sparsity | None, shape: tuple[int, ...], axis: int = 0
) -> Encoded:
    """Store a canonical matrix whose numbers are on `grid`, without the zeros that the pattern drops.

    `shape` is the weight's, `axis` that of its output channels. Raises ValueError for a number that is not on
    the grid, and for zeros that do not have the pattern.
    """
    indices = grid.indices(values) if grid.format is not None else np.empty(0, np.intp)
    if grid.format is not None and not np.array_equal(grid.numbers(indices), values):
        raise ValueError(f"a weight that is stored as {grid.format} has numbers that are not on its grid")
    codes, bits, step, table = _codes(values, grid, indices)
    chain = _Chain({})
    if sparsity is None or isinstance(sparsity, Channels):
        placed, entries = None, codes
    else:
        if isinstance(grid.format, Binary):
            raise ValueError(f"binary weights have no zero: {sparsity} cannot be stored")
        placed = place(codes, values == 0, sparsity, bits)
        entries = placed.entries
    if bits < 8:
        chain.arrays["values"] = pack_bits(entries, bits)
        signed = bool(np.issubdtype(entries.dtype, np.signedinteger))
        chain.add(Unpack(bits, entries.shape[1], signed), (), "codes")
    else:
        chain.arrays["values"] = entries
    if table is not None:
        chain.arrays["table"] = table
    if step is not None:
        chain.add(step, ("table",) if table is not None else (), "numbers")
    if placed is not None:
        chain.place(placed.arrays, placed.steps)
    _add_scales(chain, grid)
    if len(shape) == 4 or axis == 1:
        chain.add(Arrange(shape, axis), (), "weight")
    kept = placed.kept if placed is not None else None
    return Encoded(shape, axis, chain.arrays, tuple(chain.steps), grid.scale, kept)


class _Chain:
    """The steps of a weight while they are put together; `last` names the newest result."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays = arrays
        self.steps: list[Decode] = []
        self.last = "values"

    def add(self, step: Step, others: Sequence[str], result: str) -> None:
        self.steps.append(Decode(step, (self.last, *others), result))
        self.last = result

    def place(self, arrays: dict[str, Array], steps: Sequence[Decode]) -> None:
        self.arrays.update(arrays)
        entries = self.last
        for each in steps:
            reads = tuple(entries if name == "entries" else name for name in each.reads)
            self.steps.append(Decode(each.step, reads, each.result))
        self.last = "placed"


def _codes(
    values: Matrix, grid: Grid, indices: NDArray[np.intp]
) -> tuple[Array, int, Step | None, Array | None]:
    """Give the codes of a matrix, their bits, the step that makes numbers of them, and its table."""
    match grid.format:
        case None:
            return values, 32, None, None
        case Integer() | Ternary():
            return grid.levels[indices].astype(np.int8), grid.format.bits, None, None
        case Binary():
            return indices.astype(np.uint8), 1, Signs(), None
        case PowerOfTwo(bits):
            return (indices - len(grid.levels) // 2).astype(np.int8), bits, Powers(), None
        case Codebook(bits):
            table = np.zeros(1 << bits, np.int8 if grid.is_integer else np.float32)
            table[: len(grid.levels)] = grid.levels
            return indices.astype(np.uint8), bits, LookUp(), table
        case Microscaling("mxint8"):
            return (indices - len(grid.levels) // 2).astype(np.int8), 8, None, None
        case Float(name) | Microscaling(name):
            exponent, mantissa = EXPONENT_BITS[name]
            patterns = grid.levels.astype(DTYPES[name])
            patterns = patterns.view(np.uint16 if patterns.itemsize == 2 else np.uint8)
            return patterns[indices], grid.format.bits, Minifloat(exponent, mantissa), None


def _add_scales(chain: _Chain, grid: Grid) -> None:
    """Add the scales of the groups, where there are any beside those of the output channels."""
    if grid.integers is not None:
        if grid.integers.shape[1] > 1:
            chain.arrays["scales"] = grid.integers
            chain.add(ScaleGroups(grid.group), ("scales",), "scaled")
        return
    match grid.format:
        case None | Codebook() | Float("fp16") | Float("bf16"):
            return
        case Microscaling(name):
            exponents = np.frexp(grid.scales)[1] - 1 + E8M0_BIAS
            chain.arrays["scales"] = exponents.astype(np.uint8)
            bias = E8M0_BIAS + (MXINT8_FRACTION if name == "mxint8" else 0)
            chain.steps.append(Decode(Exponents(bias), ("scales",), "powers"))
            chain.add(ScaleGroups(grid.group), ("powers",), "scaled")
        case _:
            chain.arrays["scales"] = grid.scales
            chain.add(ScaleGroups(grid.group), ("scales",), "scaled")
