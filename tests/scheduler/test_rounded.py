"""A scheme's weight: as sparse as its pattern says, on its format's grid, or refused with a reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.formats.matrix import matrix_of
from tersor.layer import Layer
from tersor.scheduler.rounded import rounded
from tersor.scheme import Scheme

CONV = Layer("conv", "conv2d", K=8, C=8, R=3, S=3)
DENSE = Layer("fc", "matmul", K=8, C=32)
TABLE = Layer("words", "gather", K=32, C=8)


def weight_of(layer: Layer, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=layer.weight_shape).astype(np.float32)


@pytest.mark.parametrize("layer", [CONV, DENSE], ids=lambda layer: layer.name)
@pytest.mark.parametrize(
    ("text", "zeros"),
    [("fp32+2:4", 0.5), ("fp32+1:4", 0.75), ("fp32+sparse75", 0.75), ("fp32+block4x4-50", 0.5)],
)
def test_a_pattern_leaves_its_share_and_the_largest(layer: Layer, text: str, zeros: float) -> None:
    weight = weight_of(layer)
    thinned = rounded(weight, layer, Scheme.parse(text))
    assert (thinned == 0).mean() == pytest.approx(zeros, abs=0.01)
    assert np.array_equal(thinned[thinned != 0], weight[thinned != 0])
    assert np.square(thinned).sum() > (1 - zeros) * np.square(weight).sum()


def test_nm_lies_along_the_input_channels() -> None:
    matrix = matrix_of(rounded(weight_of(CONV), CONV, Scheme.parse("fp32+2:4")), 0)
    assert ((matrix.reshape(8, 9, 2, 4) != 0).sum(axis=3) == 2).all()


@given(seed=st.integers(0, 1000))
def test_more_bits_are_nearer(seed: int) -> None:
    weight = weight_of(DENSE, seed)
    errors = [
        np.square(rounded(weight, DENSE, Scheme.parse(f"w{bits}a8")) - weight).sum() for bits in (2, 4, 8)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("layer", [CONV, DENSE, TABLE], ids=lambda layer: layer.name)
def test_rows_have_scales_of_their_own(layer: Layer) -> None:
    weight = weight_of(layer)
    axis = 1 if layer is DENSE else 0
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    weight *= 10.0 ** np.arange(8).reshape(shape)
    result = rounded(weight, layer, Scheme.parse("w8a32"))
    assert np.abs(matrix_of(result / weight - 1, axis)).max(axis=1).max() < 2
    assert (matrix_of(result, axis) != 0).any(axis=1).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int8+rank4", "rank4 makes other layers"),
        ("int8+channels50", "channels50 changes its neighbours"),
        ("int8+3:7", "3:7 sparsity needs a multiple of 7 inputs, got 32"),
        ("int8+block3x4-50", "needs a multiple of 3 outputs, got 8"),
    ],
)
def test_what_a_layer_cannot_have_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rounded(weight_of(DENSE), DENSE, Scheme.parse(text))
