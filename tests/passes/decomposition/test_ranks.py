import numpy as np
import pytest

from tersor.factor import FilterGroups, LowRank, Spatial, Tucker
from tersor.layer import Layer
from tersor.passes.decomposition.ranks import choose_factor, rank_for_energy
from tersor.passes.decomposition.vbmf import vbmf_rank
from tersor.rank_rule import RankRule

FILTER = Layer("w", "conv2d", K=64, C=64, P=14, Q=14, R=3, S=3, padding=(1, 1, 1, 1))


def noisy(rank: int, noise: float, seed: int, shape: tuple[int, int] = (60, 150)) -> np.ndarray:
    random = np.random.default_rng(seed)
    low = random.normal(size=(shape[0], rank)) @ random.normal(size=(rank, shape[1]))
    return low + noise * random.normal(size=shape)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rank", [0, 1, 7, 20])
@pytest.mark.parametrize("noise", [0.01, 0.5, 1.0])
def test_the_rank_of_a_noisy_matrix_is_found_again(rank: int, noise: float, seed: int) -> None:
    matrix = noisy(rank, noise, seed)
    assert vbmf_rank(matrix) == vbmf_rank(matrix.T) == rank


def test_noise_that_drowns_a_matrix_leaves_less_of_it() -> None:
    assert vbmf_rank(noisy(20, 30.0, 0)) < 20
    assert vbmf_rank(np.zeros((5, 9))) == 0


def test_the_energy_is_kept_by_the_least_rank() -> None:
    matrix = np.diag([3.0, 2.0, 1.0, 0.5])
    assert [rank_for_energy(matrix, energy) for energy in (0.6, 0.64, 0.9, 0.95, 1.0)] == [1, 2, 2, 3, 4]
    assert rank_for_energy(np.zeros((5, 7)), 0.9) == 1


def weight(rank: int, shape: tuple[int, ...] = (64, 64, 3, 3)) -> np.ndarray:
    random = np.random.default_rng(0)
    flat = random.normal(size=(shape[0], rank)) @ random.normal(size=(rank, int(np.prod(shape[1:]))))
    return (flat + 0.1 * random.normal(size=flat.shape)).reshape(shape).astype(np.float32)


def test_ranks_are_chosen_on_the_grid_of_the_vectors() -> None:
    filters = weight(11)
    assert choose_factor(FILTER, filters, RankRule("rank", "vbmf")) == LowRank(16)
    assert choose_factor(FILTER, filters, RankRule("rank", "energy", 99)) == LowRank(16)
    tucker = choose_factor(FILTER, filters, RankRule("tucker", "vbmf"))
    assert isinstance(tucker, Tucker)
    assert tucker.outputs == 16


@pytest.mark.parametrize("share", [20, 50, 80])
@pytest.mark.parametrize("name", ["rank", "spatial", "tucker", "cp", "filtergroups"])
def test_a_budget_is_used_and_not_exceeded(name: str, share: int) -> None:
    found = choose_factor(FILTER, weight(64), RankRule(name, "macs", share))
    if isinstance(found, str):
        assert "filtergroups" in found  # its 1x1 convolution alone takes a ninth
        return
    used = sum(part.macs for part in FILTER.factored(found)) / FILTER.macs
    assert used <= share / 100
    assert used > share / 100 - (0.5 if isinstance(found, FilterGroups) else 0.25)


def test_where_no_ranks_are_worth_it_there_is_a_reason() -> None:
    reason = choose_factor(FILTER, weight(64), RankRule("rank", "energy", 100))
    assert isinstance(reason, str)
    assert "multiply" in reason
    dense = Layer("w", "matmul", K=64, C=64)
    assert "dense layer" in str(
        choose_factor(dense, np.ones((64, 64), np.float32), RankRule("spatial", "vbmf"))
    )
    assert "leaves less than" in str(choose_factor(FILTER, weight(8), RankRule("filtergroups", "macs", 1)))


def test_rows_and_columns_of_rank_one_are_found() -> None:
    sides = np.random.default_rng(1).normal(size=(2, 64, 3))
    filters = np.einsum("kr,cs->kcrs", sides[0], sides[1]).astype(np.float32)
    assert choose_factor(FILTER, filters, RankRule("spatial", "energy", 90)) == Spatial(16)
