import numpy as np
import pytest

from tersor.factor import CP, Factor, FilterGroups, LowRank, Spatial, TensorTrain, Tucker
from tersor.layer import Layer
from tersor.passes.decomposition.factor_weight import factor_weight
from tersor.passes.decomposition.matrix import matrix_of
from tests.passes.decomposition.chains import composed, dense

# A weight [16, 8, 3, 3]; every factorization from coarse to exact.
LADDERS: list[list[Factor]] = [
    [LowRank(2), LowRank(4), LowRank(8), LowRank(16)],
    [Spatial(2), Spatial(6), Spatial(12), Spatial(24)],
    [FilterGroups(8), FilterGroups(4), FilterGroups(2), FilterGroups(1)],
    [Tucker(2, 4), Tucker(4, 8), Tucker(8, 8), Tucker(8, 16)],
    [CP(2), CP(8), CP(24), CP(72)],
]


def filters(seed: int = 0, shape: tuple[int, ...] = (16, 8, 3, 3)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def second_moment(size: int, seed: int = 1) -> np.ndarray:
    """Of inputs whose channels go together and differ in power."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(size, size)) * np.geomspace(0.05, 2, size)
    return mixing @ mixing.T / size


def whole(weight: np.ndarray, factor: Factor, moment: np.ndarray | None = None) -> np.ndarray:
    """The weight that the factors stand for."""
    parts = factor_weight(weight, factor, moment)
    if isinstance(factor, FilterGroups):
        parts = (dense(parts[0], None, factor.groups), *parts[1:])
    return composed(parts)


def loss(weight: np.ndarray, other: np.ndarray, moment: np.ndarray | None = None) -> float:
    """The error, relative, of the weight or of its outputs."""
    matrix, wrong = matrix_of(weight), matrix_of(weight - other)
    moment = np.eye(matrix.shape[1]) if moment is None else moment
    return float(np.sqrt(np.trace(wrong @ moment @ wrong.T) / np.trace(matrix @ moment @ matrix.T)))


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder[0].name)
@pytest.mark.parametrize("aware", [False, True])
def test_the_error_falls_with_the_rank_down_to_nothing(ladder: list[Factor], aware: bool) -> None:
    weight = filters()
    moment = second_moment(72) if aware else None
    losses = [loss(weight, whole(weight, factor, moment), moment) for factor in ladder]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 1
    assert losses[-1] < 1e-5


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder[0].name)
def test_with_the_inputs_known_outputs_are_nearer(ladder: list[Factor]) -> None:
    weight, moment = filters(), second_moment(72)
    for factor in ladder[:-1]:
        plain = loss(weight, whole(weight, factor), moment)
        assert loss(weight, whole(weight, factor, moment), moment) < plain


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder[0].name)
def test_the_weights_are_those_of_the_layers_and_the_same_every_time(ladder: list[Factor]) -> None:
    layer = Layer("w", "conv2d", K=16, C=8, P=9, Q=9, R=3, S=3)
    for factor in ladder:
        weights = factor_weight(filters(), factor)
        assert [each.shape for each in weights] == [part.weight_shape for part in layer.factored(factor)]
        for one, again in zip(weights, factor_weight(filters(), factor), strict=True):
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, again)


def test_a_low_rank_has_the_least_error_that_there_is() -> None:
    weight = filters(3)
    singular = np.linalg.svd(matrix_of(weight), compute_uv=False)
    for rank in (1, 5, 15):
        least = np.sqrt(np.square(singular[rank:]).sum() / np.square(singular).sum())
        assert loss(weight, whole(weight, LowRank(rank))) == pytest.approx(least, rel=1e-5)


def test_a_low_rank_of_known_inputs_leaves_the_least_singular_values_of_the_outputs() -> None:
    weight, moment = filters(4), second_moment(72)
    singular = np.linalg.svd(matrix_of(weight) @ np.linalg.cholesky(moment), compute_uv=False)
    for rank in (1, 5, 15):
        least = np.sqrt(np.square(singular[rank:]).sum() / np.square(singular).sum())
        assert loss(weight, whole(weight, LowRank(rank), moment), moment) == pytest.approx(least, rel=1e-5)


def test_spatial_factors_are_the_truncated_svd_of_rows_against_columns() -> None:
    weight = filters(5)
    singular = np.linalg.svd(weight.transpose(1, 2, 3, 0).reshape(24, 48), compute_uv=False)
    least = np.sqrt(np.square(singular[7:]).sum() / np.square(singular).sum())
    assert loss(weight, whole(weight, Spatial(7))) == pytest.approx(least, rel=1e-5)


def test_channels_that_are_never_seen_cost_nothing() -> None:
    weight, moment = filters(6), second_moment(72)
    unseen = np.arange(72) % 8 >= 4  # the last four channels of each tap
    moment[unseen] = moment[:, unseen] = 0
    for factor in (LowRank(16), Tucker(4, 16), Spatial(12)):
        assert loss(weight, whole(weight, factor, moment), moment) < 1e-4


def test_a_sum_of_few_terms_is_found_again() -> None:
    random = np.random.default_rng(7)
    sides = [random.normal(size=(extent, 5)) for extent in (16, 8, 3, 3)]
    weight = np.einsum("ki,ci,ri,si->kcrs", *sides).astype(np.float32)
    assert loss(weight, whole(weight, CP(5))) < 0.03


def test_a_weight_of_zeros_has_factors_of_zeros() -> None:
    weight = np.zeros((16, 8, 3, 3), np.float32)
    for factor in (LowRank(2), Spatial(2), Tucker(2, 2), CP(2), FilterGroups(2)):
        assert not whole(weight, factor).any()


def test_dense_factors_at_full_rank_give_the_weight_back() -> None:
    weight = filters(8, (24, 16))
    first, second = factor_weight(weight, LowRank(16))
    assert (first.shape, second.shape) == ((24, 16), (16, 16))
    np.testing.assert_allclose(first @ second, weight, atol=1e-5)


def multiplied(x: np.ndarray, factor: TensorTrain, weights: tuple[np.ndarray, ...]) -> np.ndarray:
    """Multiply rows with a tensor train, step by step."""
    train = factor.train(x.shape[1], 96)
    data = x.reshape(len(x), *train.inputs, 1)
    for i, weight in enumerate(weights):
        data = np.moveaxis(data, len(train.inputs) - i, -2)
        lead = data.shape[:-2]
        data = data.reshape(*lead, -1) @ weight
        data = data.reshape(*lead, train.outputs[i], train.ranks[i + 1])
    return data.reshape(len(x), 96)


def test_a_tensor_train_comes_nearer_with_its_rank() -> None:
    weight, x = filters(9, (64, 96)), filters(10, (5, 64))
    losses = []
    for rank in (1, 4, 12, 1000):
        factor = TensorTrain(rank)
        got = multiplied(x, factor, factor_weight(weight, factor))
        losses.append(float(np.linalg.norm(got - x @ weight) / np.linalg.norm(x @ weight)))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-5


def test_a_weight_that_is_a_tensor_train_is_found_again() -> None:
    random = np.random.default_rng(11)
    factor = TensorTrain(3)
    shapes = [part.weight_shape for part in Layer("w", "matmul", C=64, K=96).factored(factor)]
    cores = tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)
    weight = multiplied(np.eye(64, dtype=np.float32), factor, cores)
    again = multiplied(np.eye(64, dtype=np.float32), factor, factor_weight(weight, factor))
    assert np.linalg.norm(again - weight) / np.linalg.norm(weight) < 1e-5
