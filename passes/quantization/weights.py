"""Round weights: every weight of a network to numbers of its scheme's format, and how they are stored.

w   ->   canonical matrix   ->   numbers on a grid   ->   Encoded
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.formats.encoded import Encoded, encode
from tersor.formats.grids import Grid, Matrix, fit
from tersor.formats.matrix import matrix_of, weight_of
from tersor.formats.scales import Method
from tersor.formats.size import reads_codes
from tersor.passes.quantization.channel_steps import times_steps
from tersor.scheme import Scheme
from tersor.weight_format import WeightFormat

Steps = tuple[float, ...]
Rounding = Callable[[str, Matrix, WeightFormat, bool, Steps], tuple[Matrix, Grid]]
"""(layer, matrix, format, whether as int8 codes, steps of the input's channels that are in the matrix)
-> numbers of a grid, and the grid; zeros of the matrix stay zero."""


def nearest(
    layer: str, matrix: Matrix, format: WeightFormat, integer: bool, steps: Steps
) -> tuple[Matrix, Grid]:
    """Round to the nearest number of a grid that reaches the largest weight."""
    grid = fit(matrix, format, integer)
    return grid.nearest(matrix), grid


class Weights:
    """Rounds the weights of a network, each once; `encoded` has them by layer, as they are stored."""

    def __init__(self, rounding: Rounding = nearest) -> None:
        self._rounding = rounding
        self.encoded: dict[str, Encoded] = {}

    def round(
        self,
        layer: str,
        weight: NDArray[np.float32],
        axis: int,
        scheme: Scheme,
        steps: Steps = (),
        scales_rows: bool = False,
    ) -> Encoded:
        """Round a weight times `steps` as its scheme says; `axis` is that of the output channels.

        `scales_rows` as of `reads_codes`. Raises UserError for NaN and infinite weights, and for a weight
        that cannot be stored in the scheme's pattern.
        """
        if layer not in self.encoded:
            scaled = times_steps(weight, steps)
            self.encoded[layer] = self._encode(layer, scaled, axis, scheme, steps, scales_rows)
        return self.encoded[layer]

    def _encode(
        self,
        layer: str,
        weight: NDArray[np.float32],
        axis: int,
        scheme: Scheme,
        steps: Steps,
        scales_rows: bool,
    ) -> Encoded:
        assert scheme.weight is not None
        matrix = matrix_of(weight, axis)
        integer = reads_codes(scheme, scales_rows)
        values, grid = self._rounding(layer, matrix, scheme.weight, integer, steps)
        return stored(layer, values, grid, scheme, weight.shape, axis)


def stored(
    layer: str, values: Matrix, grid: Grid, scheme: Scheme, shape: tuple[int, ...], axis: int
) -> Encoded:
    """Store numbers on a grid as a scheme says. Raises UserError if they do not have its pattern."""
    try:
        return encode(values, grid, scheme.sparsity, shape, axis)
    except ValueError as error:
        raise UserError(
            f"the weight of {layer!r} cannot be stored as {scheme}: {error}: change its scheme"
        ) from error


def rounded(
    weight: NDArray[np.float32],
    axis: int,
    format: WeightFormat,
    integer: bool = True,
    method: Method = "nearest",
) -> NDArray[np.float32]:
    """Give the numbers of a format nearest to a weight, in its shape. Raises UserError as `fit` does."""
    matrix = matrix_of(weight, axis)
    return weight_of(fit(matrix, format, integer, method).nearest(matrix), weight.shape, axis)


def dequantize_weight(codes: NDArray[np.int8], scale: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The float32 weight that codes and scales stand for."""
    shape = [1] * codes.ndim
    shape[axis] = -1
    return codes.astype(np.float32) * scale.reshape(shape)
