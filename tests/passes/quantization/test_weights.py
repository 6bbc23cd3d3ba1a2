import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.formats.grids import fit
from tersor.passes.quantization.weights import Weights, dequantize_weight, rounded
from tersor.scheme import INT8
from tersor.weight_format import Codebook, Float, WeightFormat
from tests.rounded_weights import quantize_weight


def snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(np.square(reference).sum() / np.square(reference - other).sum())


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from(["nearest", "mse"]),
    st.integers(0, 1),
)
def test_codes_are_within_limits_and_values_within_half_a_step(
    seed: int, bits: int, method, axis: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(6, 9)) * 10.0 ** rng.integers(-6, 6, size=(6, 1))).astype(np.float32)
    codes, scale = quantize_weight(weight, axis, bits, method)
    assert codes.dtype == np.int8
    assert scale.dtype == np.float32
    assert codes.shape == weight.shape
    assert scale.shape == (weight.shape[axis],)
    limit = 2 ** (bits - 1) - 1
    assert np.abs(codes.astype(int)).max() <= limit
    assert (scale > 0).all()
    if method == "nearest":
        steps = np.abs(dequantize_weight(codes, scale, axis) - weight) / np.expand_dims(scale, 1 - axis)
        assert steps.max() <= 0.5001
        assert (np.abs(codes).max(axis=1 - axis) == limit).all()


def test_halves_round_to_even() -> None:
    weight = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]], np.float32)
    codes, scale = quantize_weight(weight, axis=0)
    assert scale.tolist() == [1]
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2, -2]]


def test_scales_are_per_output_channel_of_conv_and_dense() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3, 2, 5)).astype(np.float32)
    codes, scale = quantize_weight(weight, axis=0)
    np.testing.assert_array_equal(scale, np.abs(weight).max(axis=(1, 2, 3)) / np.float32(127))
    dense_codes, dense_scale = quantize_weight(weight.reshape(4, -1).T, axis=1)
    np.testing.assert_array_equal(dense_scale, scale)
    np.testing.assert_array_equal(dense_codes, codes.reshape(4, -1).T)
    assert dense_codes.flags.c_contiguous


@pytest.mark.parametrize("method", ["nearest", "mse"])
def test_channels_of_zeros_and_of_denormals_get_scale_one(method) -> None:
    weight = np.zeros((3, 4), np.float32)
    weight[1] = 1e-44
    weight[2] = 3e38
    codes, scale = quantize_weight(weight, axis=0, method=method)
    assert scale[:2].tolist() == [1, 1]
    assert not codes[:2].any()
    assert (codes[2] == 127).all()


def test_mse_is_never_worse_and_helps_where_bits_are_few() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 288)).astype(np.float32)
    for bits, gain in ((8, 0.0), (4, 1.0), (3, 2.0)):
        minmax = dequantize_weight(*quantize_weight(weight, 0, bits), axis=0)
        mse = dequantize_weight(*quantize_weight(weight, 0, bits, "mse"), axis=0)
        assert snr_db(weight, mse) >= snr_db(weight, minmax) + gain
        per_channel = np.square(weight - mse).sum(axis=1) <= np.square(weight - minmax).sum(axis=1) * 1.00001
        assert per_channel.all()


def test_wrong_weights_and_bits_are_refused() -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        quantize_weight(np.array([[1, np.nan]], np.float32), 0)
    with pytest.raises(ValueError, match="2 to 8 bits, got 9"):
        quantize_weight(np.ones((2, 2), np.float32), 0, bits=9)


def test_a_weight_is_rounded_once_by_the_given_algorithm_and_remembered() -> None:
    seen: list[tuple[str, tuple[float, ...]]] = []

    def to_zero(
        layer: str, matrix: np.ndarray, format: WeightFormat, integer: bool, steps: tuple[float, ...]
    ):
        seen.append((layer, steps))
        grid = fit(matrix, format, integer)
        return grid.nearest(0 * matrix), grid

    weights = Weights(to_zero)
    weight = np.ones((3, 4), np.float32)
    first = weights.round("fc", weight, 1, INT8, (1.0, 2.0, 4.0))
    assert weights.round("fc", weight, 1, INT8, (1.0, 2.0, 4.0)) is first is weights.encoded["fc"]
    assert seen == [("fc", (1.0, 2.0, 4.0))]
    assert not first.decode().any()
    assert first.scale is not None
    assert first.scale.tolist() == (np.full(4, 4, np.float32) / np.float32(127)).tolist()


def test_rounded_numbers_are_those_of_the_format() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    assert len(np.unique(rounded(weight, 0, Codebook(3)))) <= 8 * 8
    assert np.array_equal(
        rounded(weight, 0, Float("bf16"), integer=False).view(np.uint32) & 0xFFFF, np.zeros(weight.shape)
    )
