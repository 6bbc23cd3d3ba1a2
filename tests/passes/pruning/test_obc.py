"""Dropping weights by what the output loses, against the exact solution on matrices small enough for it."""

from itertools import combinations

import numpy as np
import pytest

from tersor.passes.pruning.obc import DAMPING, surgeon
from tersor.passes.pruning.pattern import mask_of
from tersor.sparsity import NM, Block, Unstructured


def correlated(columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, columns)) @ rng.normal(size=(columns, columns))
    return (x.T @ x / len(x))[None]


def damped(moments: np.ndarray) -> np.ndarray:
    columns = moments.shape[1]
    return moments[0] + DAMPING * np.trace(moments[0]) / columns * np.eye(columns)


def error(matrix: np.ndarray, other: np.ndarray, moment: np.ndarray) -> float:
    return float(np.einsum("ki,ij,kj->", matrix - other, moment, matrix - other))


def exact_drop(row: np.ndarray, dropped: list[int], moment: np.ndarray) -> tuple[float, np.ndarray]:
    """The cost of dropping weights and what the row then is (Optimal Brain Surgeon, eq. 5, for a set)."""
    inverse = np.linalg.inv(moment)
    step = np.linalg.solve(inverse[np.ix_(dropped, dropped)], row[dropped])
    result = row - inverse[:, dropped] @ step
    result[dropped] = 0
    return float(row[dropped] @ step), result


def test_in_one_group_the_choice_and_the_update_are_the_optimal_brain_surgeons() -> None:
    moments = correlated(4, 0)
    matrix = np.random.default_rng(1).normal(size=(6, 4))
    mask, result = surgeon(matrix, moments, NM(2, 4))
    for row, kept, values in zip(matrix, mask, result, strict=True):
        costs = {out: exact_drop(row, list(out), damped(moments))[0] for out in combinations(range(4), 2)}
        best = min(costs, key=lambda out: costs[out])
        assert np.flatnonzero(~kept).tolist() == list(best)
        # Columns left of a dropped one stay as they are, so the exact solution is a bound.
        assert error(row[None], values[None], damped(moments)) >= costs[best] - 1e-9


def test_the_update_of_the_last_columns_is_exact() -> None:
    moments = correlated(6, 2)
    matrix = np.zeros((1, 6))
    matrix[0] = [1e-9, 2.0, -1.5, 1.0, 0.7, -0.4]  # the first goes, and the rest may all take over
    mask, result = surgeon(matrix, moments, Unstructured(100 / 6))
    dropped = np.flatnonzero(~mask[0]).tolist()
    assert dropped == [0]
    np.testing.assert_allclose(result[0], exact_drop(matrix[0], dropped, damped(moments))[1], atol=1e-12)


@pytest.mark.parametrize(
    "sparsity", [NM(2, 4), NM(4, 8), NM(1, 16), Unstructured(70), Block(2, 4, 50)], ids=str
)
def test_it_keeps_the_pattern_and_loses_less_than_magnitude(sparsity: NM | Block | Unstructured) -> None:
    moments = np.concatenate([correlated(160, 3), correlated(160, 4)])
    matrix = np.random.default_rng(5).normal(size=(8, 160))
    mask, result = surgeon(matrix, moments, sparsity)
    by_size = mask_of(np.square(matrix), sparsity)
    assert mask.sum() == by_size.sum()
    assert not result[~mask].any()
    if isinstance(sparsity, NM):
        assert (mask.reshape(-1, sparsity.m).sum(axis=1) == sparsity.n).all()
    for group in range(2):
        rows = slice(4 * group, 4 * group + 4)
        moment = moments[group]
        lost = error(matrix[rows], result[rows], moment)
        assert lost < error(matrix[rows], matrix[rows] * by_size[rows], moment)


def test_inputs_that_are_always_zero_cost_nothing() -> None:
    mask, result = surgeon(np.ones((2, 4)), np.zeros((1, 4, 4)), NM(2, 4))
    assert mask.sum() == 4
    assert np.isfinite(result).all()
