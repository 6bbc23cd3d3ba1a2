"""Refitting weights to the inputs that are left."""

import numpy as np
import pytest

from tersor.passes.pruning.refit import bias_shift, canonical_matrix, covariance, from_canonical, refit


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Rows of 12 correlated inputs that are not centred, [500, 12]."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(500, 5)) @ random.normal(size=(5, 12))
    return mixed + 0.3 * random.normal(size=(500, 12)) + 1.0


KEPT = np.arange(12) % 3 != 0


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (rows.T @ rows / len(rows))[None].astype(np.float32), rows.mean(axis=0)[None]


def test_a_refit_is_the_least_squares_solution(rows: np.ndarray) -> None:
    weight = np.random.default_rng(1).normal(size=(1, 4, 12))
    second, mean = moments(rows)
    fitted = refit(weight, covariance(second, mean), KEPT)
    centred = rows - mean
    best = np.linalg.lstsq(centred[:, KEPT], centred @ weight[0].T, rcond=None)[0]
    np.testing.assert_allclose(fitted[0][:, KEPT], best.T, atol=2e-2)
    assert not fitted[0][:, ~KEPT].any()


def test_the_error_falls_and_the_mean_stays(rows: np.ndarray) -> None:
    weight = np.random.default_rng(1).normal(size=(1, 4, 12))
    second, mean = moments(rows)
    fitted = refit(weight, covariance(second, mean), KEPT)
    shift = bias_shift(weight, fitted, mean)
    wanted = rows @ weight[0].T
    got = rows @ fitted[0].T + shift
    cut = rows @ (weight[0] * KEPT).T
    np.testing.assert_allclose(got.mean(axis=0), wanted.mean(axis=0), rtol=1e-5)
    assert np.square(got - wanted).mean() < 0.2 * np.square(cut - wanted).mean()


def test_where_nothing_is_dropped_nothing_changes(rows: np.ndarray) -> None:
    weight = np.random.default_rng(1).normal(size=(1, 4, 12))
    second, mean = moments(rows)
    np.testing.assert_array_equal(refit(weight, covariance(second, mean), KEPT | True), weight)


def test_inputs_that_never_vary_leave_the_weights() -> None:
    weight = np.random.default_rng(1).normal(size=(1, 4, 12))
    np.testing.assert_array_equal(refit(weight, np.zeros((1, 12, 12)), KEPT), weight * KEPT)


@pytest.mark.parametrize(("shape", "groups"), [((6, 4, 3, 2), 1), ((6, 4, 3, 2), 3), ((5, 7), 1)])
def test_canonical_matrices_go_back(shape: tuple[int, ...], groups: int) -> None:
    weight = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    matrix = canonical_matrix(weight, groups)
    np.testing.assert_array_equal(from_canonical(matrix, shape), weight)
    if len(shape) == 4:
        np.testing.assert_array_equal(matrix.reshape(6, 6, 4)[5, 3], weight[5, :, 1, 1])
