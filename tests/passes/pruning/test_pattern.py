from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.passes.pruning.pattern import joint_masks, mask_of
from tersor.sparsity import NM, Block, Channels, Unstructured

zeros = st.sampled_from([10.0, 33.0, 50.0, 75.0, 90.0])
seeds = st.integers(0, 2**32 - 1)


def scores_of(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, columns))


@given(zeros, st.integers(1, 6), st.integers(1, 6), seeds)
def test_unstructured_keeps_exactly_its_share_and_the_largest(
    share: float, rows: int, columns: int, seed: int
) -> None:
    scores, sparsity = scores_of(seed, rows, columns), Unstructured(share)
    mask = mask_of(scores, sparsity)
    count = max(1, round(scores.size * sparsity.density))
    assert mask.sum() == count
    assert scores[mask].sum() == pytest.approx(np.sort(scores, axis=None)[::-1][:count].sum())


@given(zeros, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), seeds)
def test_blocks_stay_or_go_as_a_whole(
    share: float, outputs: int, inputs: int, down: int, across: int, seed: int
) -> None:
    scores = scores_of(seed, outputs * down, inputs * across)
    sparsity = Block(outputs, inputs, share)
    tiles = mask_of(scores, sparsity).reshape(down, outputs, across, inputs).transpose(0, 2, 1, 3)
    per_block = tiles.reshape(down * across, -1)
    assert (per_block.all(axis=1) | ~per_block.any(axis=1)).all()
    assert per_block.any(axis=1).sum() == max(1, round(down * across * sparsity.density))


@pytest.mark.parametrize("sparsity", [NM(2, 4), Unstructured(50), Block(2, 2, 50), Block(1, 4, 50)])
def test_no_other_mask_of_the_pattern_keeps_more(sparsity: NM | Block | Unstructured) -> None:
    scores = scores_of(3, 2, 8)
    outputs, inputs = (sparsity.outputs, sparsity.inputs) if isinstance(sparsity, Block) else (1, 1)
    units = (2 // outputs) * (8 // inputs)
    best = 0.0
    for kept in combinations(range(units), units // 2):
        mask = np.isin(np.arange(units), kept).reshape(2 // outputs, -1)
        mask = mask.repeat(outputs, axis=0).repeat(inputs, axis=1)
        if isinstance(sparsity, NM) and (mask.reshape(-1, 4).sum(axis=1) != 2).any():
            continue
        best = max(best, scores[mask].sum())
    assert scores[mask_of(scores, sparsity)].sum() == pytest.approx(best)


def test_in_the_scope_of_rows_each_keeps_the_same_number() -> None:
    scores = scores_of(0, 4, 10) * np.array([[1], [10], [100], [1000]])
    assert mask_of(scores, Unstructured(70), "row").sum(axis=1).tolist() == [3, 3, 3, 3]
    assert mask_of(scores, Unstructured(70)).sum(axis=1)[0] < 3


def test_layers_together_share_the_percentage() -> None:
    even, uneven = np.ones((4, 5)), np.array([[1000.0] * 2 + [1e-3] * 18])
    for scale in (1e-6, 1.0):  # the scale of a layer says nothing of its weights
        first, second = joint_masks([scale * even, uneven], Unstructured(75))
        assert first.sum() + second.sum() == 10
        assert second.sum() < first.sum()
        assert second[0, :2].all()
    pair = joint_masks([scores_of(0, 2, 4), scores_of(1, 2, 4)], NM(2, 4))
    assert [mask.sum() for mask in pair] == [4, 4]


def test_a_pattern_that_does_not_divide_the_matrix_is_refused() -> None:
    with pytest.raises(UserError, match="multiples of 4 rows and 8 columns, got 6 and 8"):
        mask_of(np.ones((6, 8)), Block(4, 8, 50))
    with pytest.raises(UserError, match="channels50 is no share of the weights"):
        mask_of(np.ones((6, 8)), Channels(50))
