import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.passes.decomposition.svd import rank_for_energy, truncated_svd


def random_weight(seed: int, shape: tuple[int, int] = (24, 16)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.data())
def test_the_error_is_the_singular_values_left_out(
    seed: int, rows: int, columns: int, data: st.DataObject
) -> None:
    weight = random_weight(seed, (rows, columns))
    rank = data.draw(st.integers(1, min(rows, columns)))
    u, v = truncated_svd(weight, rank)
    assert (u.shape, v.shape) == ((rows, rank), (rank, columns))
    assert u.dtype == v.dtype == np.float32
    left_out = np.linalg.svd(weight, compute_uv=False)[rank:]
    assert np.linalg.norm(weight - u @ v) == pytest.approx(np.linalg.norm(left_out), rel=1e-3, abs=1e-5)


def test_no_other_factors_are_better() -> None:
    weight = random_weight(0)
    u, v = truncated_svd(weight, 4)
    least = np.linalg.norm(weight - u @ v)
    rng = np.random.default_rng(1)
    for _ in range(50):
        other = (u + rng.normal(0, 0.05, u.shape)) @ (v + rng.normal(0, 0.05, v.shape))
        assert np.linalg.norm(weight - other) >= least


def test_the_full_rank_gives_the_weight_back() -> None:
    weight = random_weight(2)
    u, v = truncated_svd(weight, 16)
    np.testing.assert_allclose(u @ v, weight, atol=1e-5)


def test_the_singular_values_are_split_evenly_and_signs_are_fixed() -> None:
    weight = random_weight(3)
    u, v = truncated_svd(weight, 5)
    singular = np.linalg.svd(weight, compute_uv=False)[:5]
    np.testing.assert_allclose(np.square(u).sum(axis=0), singular, rtol=1e-4)
    np.testing.assert_allclose(np.square(v).sum(axis=1), singular, rtol=1e-4)
    assert (u[np.abs(u).argmax(axis=0), np.arange(5)] > 0).all()
    negated_u, negated_v = truncated_svd(-weight, 5)
    np.testing.assert_allclose(negated_u, u, atol=1e-6)
    np.testing.assert_allclose(negated_v, -v, atol=1e-6)


def test_a_rank_that_does_not_fit_is_refused() -> None:
    for rank in (0, 17):
        with pytest.raises(UserError, match=f"needs a rank of 1 to 16, got {rank}"):
            truncated_svd(random_weight(0), rank)


def test_rank_for_energy_is_the_least_that_keeps_the_share() -> None:
    weight = random_weight(4)
    total = np.square(weight, dtype=np.float64).sum()
    for energy in (0.1, 0.5, 0.9, 0.99):
        rank = rank_for_energy(weight, energy)
        kept = [
            np.square((u @ v).astype(np.float64)).sum() / total for u, v in (truncated_svd(weight, rank),)
        ]
        assert kept[0] >= energy - 1e-6
        if rank > 1:
            u, v = truncated_svd(weight, rank - 1)
            assert np.square((u @ v).astype(np.float64)).sum() / total < energy
    assert rank_for_energy(weight, 1.0) == 16
    assert rank_for_energy(np.ones((5, 7), np.float32), 0.999) == 1
    assert rank_for_energy(np.zeros((5, 7), np.float32), 0.9) == 1
    for energy in (0.0, 1.1, float("nan")):
        with pytest.raises(UserError, match="share above 0 and at most 1"):
            rank_for_energy(weight, energy)
