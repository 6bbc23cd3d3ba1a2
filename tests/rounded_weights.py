"""Weights rounded to int8 codes with a scale for each output channel, as tests compare them."""

from dataclasses import replace

import numpy as np

from tersor.formats.encoded import Encoded, encode
from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of
from tersor.formats.scales import Method
from tersor.scheme import Scheme
from tersor.weight_format import Integer


def quantize_weight(
    weight: np.ndarray, axis: int, bits: int = 8, method: Method = "nearest"
) -> tuple[np.ndarray, np.ndarray]:
    """Codes (int8, the weight's shape) and scales (float32, [weight.shape[axis]])."""
    matrix = matrix_of(weight, axis)
    grid = fit(matrix, Integer(bits), True, method)
    encoded = encode(grid.nearest(matrix), grid, None, weight.shape, axis)
    assert encoded.scale is not None
    return encoded.decode(), encoded.scale


def encoded_codes(codes: np.ndarray, scheme: str) -> Encoded:
    """Codes of a dense layer, int8 [C, K] up to 127 in each column, stored as a scheme says."""
    parsed, matrix = Scheme.parse(scheme), codes.T.astype(np.float32)
    grid = fit(matrix, parsed.weight, integer=True)
    grid = replace(grid, scale=np.ones(len(matrix), np.float32), scales=np.ones((len(matrix), 1), np.float32))
    return encode(matrix, grid, parsed.sparsity, codes.shape, axis=1)
