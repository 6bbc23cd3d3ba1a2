import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.passes.pruning.nm import nm_mask

patterns = st.sampled_from([(2, 4), (1, 4), (1, 2), (4, 8), (3, 5)])


@given(patterns, st.integers(1, 5), st.integers(1, 6), st.sampled_from([0, 1]), st.integers(0, 2**32 - 1))
def test_every_block_keeps_exactly_its_n_largest(
    pattern: tuple[int, int], blocks: int, other: int, axis: int, seed: int
) -> None:
    n, m = pattern
    # Few distinct values, so that ties are common.
    weight = np.random.default_rng(seed).integers(-4, 5, size=(blocks * m, other)).astype(np.float32)
    mask = nm_mask(weight if axis == 0 else weight.T, n, m, axis)
    assert mask.dtype == np.bool_
    assert mask.flags.c_contiguous
    for column, kept in zip(weight.T, (mask if axis == 0 else mask.T).T, strict=True):
        for values, keep in zip(column.reshape(-1, m), kept.reshape(-1, m), strict=True):
            by_magnitude = sorted(range(m), key=lambda i: (-abs(values[i]), i))
            assert np.flatnonzero(keep).tolist() == sorted(by_magnitude[:n])


def test_a_mask_of_a_masked_weight_is_the_same() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    mask = nm_mask(weight, 2, 4)
    np.testing.assert_array_equal(nm_mask(weight * mask, 2, 4), mask)


def test_of_equal_weights_the_first_stay() -> None:
    assert nm_mask(np.ones((4, 1), np.float32), 2, 4)[:, 0].tolist() == [True, True, False, False]


def test_wrong_patterns_are_refused() -> None:
    weight = np.ones((6, 4), np.float32)
    with pytest.raises(UserError, match="2:4 sparsity needs a reduction axis that 4 divides, got 6"):
        nm_mask(weight, 2, 4)
    for n, m in ((4, 2), (0, 4), (4, 4)):
        with pytest.raises(UserError, match=f"0 < n < m, got {n}:{m}"):
            nm_mask(weight, n, m, axis=1)
