import numpy as np
import pytest
from numpy.typing import NDArray

from tersor.gram import Gram
from tersor.passes.grams import ROWS, GramObserver, Window, rows_of


def observe(window: Window, *tensors: NDArray) -> Gram:
    observer = GramObserver()
    for index, tensor in enumerate(tensors):
        observer.observe(window, tensor, index)
    return observer.gram()


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolve(tensor: NDArray, weight: NDArray, window: Window) -> NDArray:
    """A convolution by its definition: weight [K, C, R, S] -> [N, P, Q, K]."""
    top, left, bottom, right = window.padding
    padded = np.pad(tensor, ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, channels, height, width = weight.shape
    groups = padded.shape[1] // channels
    down = (padded.shape[2] - (height - 1) * window.dilation[0] - 1) // window.strides[0] + 1
    across = (padded.shape[3] - (width - 1) * window.dilation[1] - 1) // window.strides[1] + 1
    result = np.zeros((len(tensor), down, across, outputs))
    for k in range(outputs):
        first = k // (outputs // groups) * channels
        for p in range(down):
            for q in range(across):
                rows = p * window.strides[0] + np.arange(height) * window.dilation[0]
                columns = q * window.strides[1] + np.arange(width) * window.dilation[1]
                seen = padded[:, first : first + channels][:, :, rows][:, :, :, columns]
                result[:, p, q, k] = (seen * weight[k]).sum(axis=(1, 2, 3))
    return result


@pytest.mark.parametrize(
    ("groups", "strides", "padding", "dilation"),
    [
        (1, (1, 1), (0, 0, 0, 0), (1, 1)),
        (1, (2, 1), (1, 0, 2, 1), (1, 1)),
        (2, (1, 2), (1, 1, 1, 1), (2, 1)),
        (4, (1, 1), (1, 1, 1, 1), (1, 1)),
    ],
)
def test_rows_times_the_weight_are_the_outputs_of_a_convolution(
    groups: int, strides: tuple[int, int], padding: tuple[int, int, int, int], dilation: tuple[int, int]
) -> None:
    tensor, weight = normal(2, 4, 7, 6), normal(8, 4 // groups, 3, 2, seed=1)
    window = Window("x", weight[0].size, groups, (3, 2), strides, padding, dilation)
    matrix = weight.transpose(0, 2, 3, 1).reshape(groups, 8 // groups, -1)  # columns in the order r, s, c
    outputs = np.einsum("grn,gkn->rgk", rows_of(window, tensor), matrix)
    expected = convolve(tensor, weight, window)
    np.testing.assert_allclose(outputs.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


def test_the_moments_are_those_of_all_rows() -> None:
    samples = [normal(3, 5, 6, seed=seed) * 10 ** (seed - 2.0) for seed in range(4)]
    gram = observe(Window("x", 6), *samples)
    rows = np.concatenate(samples).reshape(-1, 6).astype(np.float64)
    assert gram.rows == len(rows)
    np.testing.assert_allclose(gram.second_moment[0], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gram.mean[0], rows.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gram.second_moment[0], gram.second_moment[0].T)


def test_the_order_of_the_rows_changes_no_bit() -> None:
    tensor = normal(200, 64) * 1e3
    shuffled = np.random.default_rng(1).permutation(tensor)
    a, b = observe(Window("x", 64), tensor), observe(Window("x", 64), shuffled)
    assert a.second_moment.tobytes() == b.second_moment.tobytes()
    assert a.mean.tobytes() == b.mean.tobytes()


def test_of_many_rows_some_of_each_column_of_the_image_are_taken() -> None:
    window = Window("x", 1, 1, (1, 1))
    columns = np.broadcast_to(np.arange(64, dtype=np.float32), (1, 1, 64, 64))
    rows = rows_of(window, columns)
    assert rows.shape[1] <= ROWS
    assert set(rows.ravel()) == set(range(64))


def test_samples_take_different_rows() -> None:
    window, image = Window("x", 1, 1, (1, 1)), np.arange(4096, dtype=np.float32).reshape(1, 1, 64, 64)
    assert not set(rows_of(window, image, 0).ravel()) & set(rows_of(window, image, 1).ravel())


def test_zeros_have_moments_of_zero() -> None:
    gram = observe(Window("x", 3), np.zeros((2, 3), np.float32))
    assert not gram.second_moment.any()
    assert not gram.mean.any()
