import numpy as np
import pytest

from tersor.passes.quantization.bias_correction import bias_correction, bias_correction_by_rows
from tersor.passes.quantization.weights import dequantize_weight
from tests.rounded_weights import quantize_weight


def convolve(x: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    """Without padding: x [N, G*C, H, W], weight [K, C, R, S] -> [N, K, P, Q]."""
    outputs, channels, *kernel = weight.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    grouped = windows.reshape(x.shape[0], groups, channels, *windows.shape[2:])
    result = np.einsum(
        "ngcpqrs,gkcrs->ngkpq", grouped, weight.reshape(groups, outputs // groups, channels, *kernel)
    )
    return result.reshape(x.shape[0], outputs, *result.shape[3:])


@pytest.mark.parametrize(("groups", "channels", "outputs"), [(1, 5, 6), (3, 2, 6), (6, 1, 6), (4, 1, 8)])
def test_a_corrected_convolution_has_the_float_mean(groups: int, channels: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(outputs, channels, 3, 2)).astype(np.float32)
    x = rng.normal(rng.normal(size=(1, groups * channels, 1, 1)), 1.0, size=(4, groups * channels, 8, 9))
    rounded = dequantize_weight(*quantize_weight(weight, 0, bits=4), axis=0)
    constant = np.broadcast_to(x.mean(axis=(0, 2, 3), keepdims=True), x.shape)
    correction = bias_correction(weight, rounded, constant[0, :, 0, 0], groups)
    assert correction.shape == (outputs,)
    assert correction.dtype == np.float32
    expected = convolve(constant, weight, groups).mean(axis=(0, 2, 3))
    found = convolve(constant, rounded, groups).mean(axis=(0, 2, 3))
    assert np.abs(found - expected).max() > 0.01
    np.testing.assert_allclose(found + correction, expected, atol=1e-6)


def test_a_corrected_dense_layer_has_the_float_mean() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(12, 7)).astype(np.float32)
    x = rng.normal(2.0, 1.0, size=(100, 12))
    rounded = dequantize_weight(*quantize_weight(weight, 1, bits=4), axis=1)
    correction = bias_correction(weight, rounded, x.mean(axis=0))
    np.testing.assert_allclose((x @ rounded + correction).mean(axis=0), (x @ weight).mean(axis=0), atol=1e-6)


def test_exact_weights_and_centred_inputs_need_no_correction() -> None:
    weight = np.ones((4, 3, 1, 1), np.float32)
    assert not bias_correction(weight, weight, np.ones(3)).any()
    assert not bias_correction(weight, weight * 2, np.zeros(3)).any()


def test_means_that_do_not_fit_are_refused() -> None:
    weight = np.ones((4, 3, 1, 1), np.float32)
    with pytest.raises(ValueError, match="needs 6 input means"):
        bias_correction(weight, weight, np.ones(3), groups=2)


def test_with_the_means_of_all_columns_no_output_is_off_on_average() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(1, 1, (2, 50, 6))
    weight, change = rng.normal(size=(8, 6)), rng.normal(size=(8, 6))
    rounded = (weight + change).astype(np.float32)
    correction = bias_correction_by_rows(weight.astype(np.float32), rounded, rows.mean(axis=1))
    outputs = np.einsum("grn,gkn->grk", rows, change.reshape(2, 4, 6)).mean(axis=1).reshape(-1)
    np.testing.assert_allclose(outputs + correction, np.zeros(8), atol=1e-5)
