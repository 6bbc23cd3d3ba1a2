import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.passes.pruning import repair as module
from tersor.passes.pruning.repair import bias_change, repair


def moments_of(inputs: np.ndarray) -> np.ndarray:
    return np.stack([each.T @ each / len(each) for each in inputs])


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_each_row_is_the_least_squares_fit_within_its_mask(groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(groups, 200, 6)) @ rng.normal(size=(6, 6))
    matrix = rng.normal(size=(groups * 3, 6))
    mask = rng.random(matrix.shape) < 0.5
    fitted = repair(matrix, mask, moments_of(inputs))
    assert not fitted[~mask].any()
    for row in range(len(matrix)):
        x, kept = inputs[row // 3], mask[row]
        ridge = np.sqrt(module.RIDGE * np.trace(moments_of(x[None])[0]) / 6 * len(x))
        stacked = np.concatenate([x[:, kept], ridge * np.eye(kept.sum())])
        wanted = np.concatenate([x @ matrix[row], ridge * matrix[row, kept]])
        expected = np.linalg.lstsq(stacked, wanted)[0]
        np.testing.assert_allclose(fitted[row, kept], expected, rtol=1e-6, atol=1e-8)


def test_nothing_changes_where_nothing_is_dropped_or_inputs_never_vary() -> None:
    matrix = np.random.default_rng(0).normal(size=(2, 4))
    np.testing.assert_array_equal(repair(matrix, np.ones((2, 4), np.bool_), np.eye(4)[None]), matrix)
    mask = np.array([[True, False] * 2] * 2)
    np.testing.assert_array_equal(repair(matrix, mask, np.zeros((1, 4, 4))), matrix * mask)


def test_a_copy_of_a_dropped_input_takes_its_weight_over() -> None:
    inputs = np.random.default_rng(0).normal(size=(100, 1)).repeat(2, axis=1)[None]
    fitted = repair(np.array([[3.0, 2.0]]), np.array([[True, False]]), moments_of(inputs))
    assert fitted[0, 0] == pytest.approx(5.0, rel=2e-3)


def test_the_bias_takes_up_what_the_mean_of_the_output_lost() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(1.0, 1.0, size=(2, 50, 3))
    matrix, changed = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    change = bias_change(matrix, changed, inputs.mean(axis=1))
    for row in range(4):
        x = inputs[row // 2]
        assert (x @ changed[row]).mean() + change[row] == pytest.approx((x @ matrix[row]).mean())
