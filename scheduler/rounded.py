"""Rounded: the weight of a layer as a scheme leaves it, for estimates: thinned by magnitude, then rounded.

Nothing is mended: neither do the weights that are kept take over for those that are dropped, nor is a
rounding made up for by the next.
"""

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of, weight_of
from tersor.formats.scales import Method
from tersor.layer import Layer
from tersor.passes.pruning.pattern import mask_of
from tersor.scheme import Scheme
from tersor.sparsity import Channels, Sparsity, why_no_pattern

Matrix = NDArray[np.float32]


def axis_of(layer: Layer) -> int:
    """Give the axis of a weight's output channels, or of a table's rows."""
    return 1 if layer.operator == "matmul" else 0


def rounded(
    weight: NDArray[np.float32], layer: Layer, scheme: Scheme, method: Method = "nearest"
) -> NDArray[np.float32]:
    """Give the weight that the sparsity and the format of `scheme` leave, of the same shape.

    Raises UserError saying why the layer cannot have the scheme.
    """
    if scheme.factor:
        raise UserError(f"{scheme.factor} makes other layers of it: compress with it and look at the report")
    axis = axis_of(layer)
    matrix = matrix_of(weight, axis)
    if scheme.sparsity:
        matrix = matrix * kept(matrix, layer, scheme.sparsity)
    if scheme.weight:
        integer = scheme.input is not None
        matrix = fit(matrix, scheme.weight, integer, method).nearest(matrix)
    return weight_of(matrix, weight.shape, axis)


def kept(matrix: Matrix, layer: Layer, sparsity: Sparsity) -> NDArray[np.bool_]:
    """Choose the weights of a canonical matrix that stay, by their magnitude. Raises UserError."""
    if isinstance(sparsity, Channels):
        raise UserError(f"{sparsity} changes its neighbours, too: compress with it and look at the report")
    if reason := why_no_pattern(layer, sparsity):
        raise UserError(reason)
    return mask_of(np.square(matrix.astype(np.float64)), sparsity)
