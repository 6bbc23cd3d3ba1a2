"""The canonical matrix of a weight: a row for each output channel, columns in the order of the sum (r, s, c).

conv [K, C, R, S]   ->   [K, R * S * C]        dense, recurrent [C, K]   ->   [K, C]        table: as it is

Neighbours in a row are neighbours along the input channels of one filter tap, so groups, blocks and N:M
patterns lie where a kernel with channels last reads them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.layer import Layer

Array = NDArray[Any]


def matrix_of(weight: Array, axis: int) -> Array:
    """Give a weight as its matrix [K, n]; `axis` is that of the output channels (0, or 1 of a dense one).

    The rows of a table are axis 0. Of a convolution only axis 0 is one.
    """
    if weight.ndim == 4:
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(weight.shape[0], -1)
    return np.ascontiguousarray(weight if axis == 0 else weight.T)


def weight_of(matrix: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Undo `matrix_of` for a weight of a given shape."""
    if len(shape) == 4:
        k, c, r, s = shape
        return np.ascontiguousarray(matrix.reshape(k, r, s, c).transpose(0, 3, 1, 2))
    return np.ascontiguousarray(matrix if axis == 0 else matrix.T)


def matrix_shape(layer: Layer) -> tuple[int, int]:
    """Give the rows and columns of the canonical matrix of a layer's weight."""
    if layer.operator == "gather":
        return layer.C, layer.K
    return layer.G * layer.K, layer.R * layer.S * layer.C
