import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.passes.pruning.nm import nm_mask
from tersor.sparsity import NM

patterns = st.sampled_from([NM(2, 4), NM(1, 4), NM(1, 2), NM(4, 8), NM(3, 5)])


@given(patterns, st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_group_keeps_exactly_its_n_largest(pattern: NM, groups: int, rows: int, seed: int) -> None:
    # Few distinct values, so that ties are common.
    scores = np.random.default_rng(seed).integers(0, 5, size=(rows, groups * pattern.m)).astype(np.float32)
    mask = nm_mask(scores, pattern)
    assert mask.dtype == np.bool_
    for row, kept in zip(scores, mask, strict=True):
        for values, keep in zip(row.reshape(-1, pattern.m), kept.reshape(-1, pattern.m), strict=True):
            by_score = sorted(range(pattern.m), key=lambda i: (-values[i], i))
            assert np.flatnonzero(keep).tolist() == sorted(by_score[: pattern.n])


def test_a_mask_of_masked_scores_is_the_same() -> None:
    scores = np.square(np.random.default_rng(0).normal(size=(5, 32)))
    mask = nm_mask(scores, NM(2, 4))
    np.testing.assert_array_equal(nm_mask(scores * mask, NM(2, 4)), mask)


def test_of_equal_scores_the_first_stay() -> None:
    assert nm_mask(np.ones((1, 4)), NM(2, 4)).tolist() == [[True, True, False, False]]


def test_columns_that_m_does_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="2:4 sparsity needs a multiple of 4 columns, got 6"):
        nm_mask(np.ones((1, 6)), NM(2, 4))
