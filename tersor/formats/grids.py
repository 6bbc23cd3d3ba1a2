"""Grids: the numbers that the weights of one layer may be, fitted to them.

matrix [K, n], format   ->   Grid   ->   nearest number of each weight

A number is a level of the format times the scale of its group. Where int8 kernels are to read it, it is a
level times a small integer of the group, which is an int8 code, times the scale of its output channel.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.formats.kmeans import kmeans
from tersor.formats.levels import LARGEST_CODE, levels_of
from tersor.formats.scales import (
    Importance,
    Method,
    Weights,
    in_small_integers,
    largest_integer,
    least_squares,
    nearest_level,
    squared_errors,
    to_largest,
    usable,
)
from tersor.weight_format import (
    MX_BLOCK,
    Binary,
    Codebook,
    Float,
    Integer,
    Microscaling,
    PowerOfTwo,
    Ternary,
    WeightFormat,
    has_integer_codes,
)

Matrix = NDArray[np.float32]
WHOLE_ROW = slice(None)


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers of one weight's canonical matrix [K, n]; without a format, all of float32.

    Weight-only: ``levels * scales``, scales float32 [K, groups]. Integer: ``levels * integers``, int8, times
    `scale`, float32 [K].
    """

    format: WeightFormat | None
    columns: int  # n
    group: int  # columns that share a scale; n if a row has one
    levels: NDArray[np.float32]
    scales: NDArray[np.float32]
    integers: NDArray[np.int8] | None = None
    scale: NDArray[np.float32] | None = None

    @property
    def is_integer(self) -> bool:
        """Whether the numbers are int8 codes times a scale per row."""
        return self.scale is not None

    def nearest(self, values: Matrix, columns: slice = WHOLE_ROW) -> Matrix:
        """Give the number of the grid nearest to each value [K, m], which stand in the given columns."""
        if self.format is None:
            return values
        return self.numbers(self.indices(values, columns), columns)

    def neighbours(self, values: Matrix, columns: slice = WHOLE_ROW) -> tuple[Matrix, Matrix]:
        """Give the numbers of the grid next to each value: the largest not above it, and the one after that.

        Beyond an end of the grid both are the end.
        """
        if self.format is None:
            return values, values
        steps = values / self._per_column(self.scales, columns)
        below = np.searchsorted(self.levels, steps, side="right") - 1
        last = len(self.levels) - 1
        indices = np.clip(below, 0, last), np.clip(below + 1, 0, last)
        return self.numbers(indices[0], columns), self.numbers(indices[1], columns)

    def indices(self, values: Matrix, columns: slice = WHOLE_ROW) -> NDArray[np.intp]:
        """Give the index among the levels of the number nearest to each value."""
        return nearest_level(self.levels, values / self._per_column(self.scales, columns))

    def numbers(self, indices: NDArray[np.intp], columns: slice = WHOLE_ROW) -> Matrix:
        """Give the numbers that levels of the given indices are in the given columns."""
        levels = self.levels[indices]
        if self.integers is None or self.scale is None:
            return levels * self._per_column(self.scales, columns)
        codes = levels * self._per_column(self.integers, columns).astype(np.float32)
        return codes * self.scale[:, None]

    def _per_column(self, of_groups: NDArray, columns: slice) -> NDArray:
        if of_groups.shape[1] == 1:
            return of_groups
        return of_groups[:, np.arange(self.columns)[columns] // self.group]


def fit(
    matrix: Matrix,
    format: WeightFormat | None,
    integer: bool,
    method: Method = "nearest",
    importance: NDArray[np.float64] | None = None,
) -> Grid:
    """Fit the grid of a format to a canonical matrix, float32 [K, n].

    `integer` asks for int8 codes with a scale per row. "nearest" maps a group's largest magnitude to the
    largest level, "mse" searches the least squared error, each column's weighted by `importance` [n].
    Scales of ternary and binary weights and the entries of a codebook are the least squares either way. A
    codebook has an entry 0 if the matrix has zeros. A group of zeros gets scale 1.

    Raises UserError for NaN and infinite weights, ValueError for a format without integer codes.
    """
    if not np.isfinite(matrix).all():
        raise UserError("a weight with NaN or infinite values cannot be quantized")
    if integer and (format is None or not has_integer_codes(format)):
        raise ValueError(f"{format or 'fp32'} weights are no integers times one scale per channel")
    weights, counted = _grouped(matrix, group_of(format, integer), importance)
    match format:
        case None:
            return Grid(None, matrix.shape[1], matrix.shape[1], np.empty(0, np.float32), _ones(weights))
        case Codebook(bits):
            return _codebook(matrix, format, bits, integer, importance)
        case Float(name):
            levels = levels_of(format)
            # A floating-point number is as exact for small numbers as for large ones: no range is searched.
            scales = _ones(weights) if name in ("fp16", "bf16") else to_largest(weights, levels)
        case Microscaling():
            levels = levels_of(format)
            scales = _exponents(weights, levels, counted, method)
        case Ternary() | Binary():
            levels = levels_of(format)
            scales = least_squares(weights, levels, counted)
        case Integer() | PowerOfTwo():
            levels = levels_of(format)
            scales = (
                to_largest(weights, levels)
                if method == "nearest"
                else least_squares(weights, levels, counted)
            )
    columns, group = matrix.shape[1], weights.shape[2]
    if not integer:
        return Grid(format, columns, group, levels, scales)
    if scales.shape[1] == 1:
        return Grid(format, columns, group, levels, scales, np.ones(scales.shape, np.int8), scales[:, 0])
    scale, integers = in_small_integers(weights, levels, scales, counted)
    return Grid(format, columns, group, levels, integers * scale[:, None], integers, scale)


def group_of(format: WeightFormat | None, integer: bool) -> int | None:
    """Give how many neighbours in a row share a scale, or None if all do.

    Groups of codes that leave no room for an integer above 1 in an int8 code have the scale of their row.
    """
    match format:
        case Microscaling():
            return MX_BLOCK
        case Integer() | Ternary() | Binary() | PowerOfTwo():
            if format.group is None or not integer:
                return format.group
            return None if largest_integer(levels_of(format)) == 1 else format.group
        case _:
            return None


def _grouped(
    matrix: Matrix, group: int | None, importance: NDArray[np.float64] | None
) -> tuple[Weights, Importance]:
    """Cut the rows into groups, the last filled up with zeros that do not count."""
    rows, columns = matrix.shape
    length = min(group or columns, columns)
    missing = -columns % length
    counted = np.ones(columns) if importance is None else importance.astype(np.float64)
    filled = np.pad(matrix, ((0, 0), (0, missing)))
    return filled.reshape(rows, -1, length), np.pad(counted, (0, missing)).reshape(-1, length)


def _ones(weights: Weights) -> NDArray[np.float32]:
    return np.ones((len(weights), 1), np.float32)


def _exponents(
    weights: Weights, levels: NDArray[np.float32], counted: Importance, method: Method
) -> NDArray[np.float32]:
    """Give each block the power of two of the standard; "mse" tries the next larger one, which clips nothing.

    The standard's is the largest power of two in the block over the one in the format (OCP Microscaling
    Formats 1.0, section 6.3), so that the largest weights may clip.
    """
    largest = np.abs(weights).max(axis=2)
    exponent = np.frexp(largest)[1] - np.frexp(levels[-1])[1]
    # E8M0 has no zero; MXINT8's elements are 64ths, and 2^-120 of them still are normal float32 numbers.
    exponent = np.clip(np.where(largest > 0, exponent, 0), -119, 126)
    scales = np.ldexp(np.float32(1), exponent).astype(np.float32)
    if method == "nearest":
        return scales
    errors = [squared_errors(weights, levels, each, counted) for each in (scales, 2 * scales)]
    return np.where(errors[1] < errors[0], 2 * scales, scales)


def _codebook(
    matrix: Matrix, format: Codebook, bits: int, integer: bool, importance: NDArray[np.float64] | None
) -> Grid:
    """Find the entries of one table for the layer; integer ones are int8 codes on the scale of a row."""
    columns = matrix.shape[1]
    scale = usable(np.abs(matrix).max(axis=1) / np.float32(LARGEST_CODE)) if integer else None
    numbers = matrix if scale is None else matrix / scale[:, None]
    counted = np.ones(columns) if importance is None else importance
    squares = np.ones(len(matrix)) if scale is None else scale.astype(np.float64) ** 2
    weights = None if scale is None and importance is None else np.outer(squares, counted).reshape(-1)
    entries = kmeans(numbers.reshape(-1), weights, 1 << bits, with_zero=bool((matrix == 0).any()))
    if scale is None:
        levels = np.unique(entries.astype(np.float32))
        return Grid(format, columns, columns, levels, np.ones((len(matrix), 1), np.float32))
    levels = np.unique(np.clip(np.rint(entries), -LARGEST_CODE, LARGEST_CODE)).astype(np.float32)
    ones = np.ones((len(matrix), 1), np.int8)
    return Grid(format, columns, columns, levels, scale[:, None], ones, scale)
