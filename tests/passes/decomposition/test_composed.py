"""A chain of factors, multiplied out, is what the chain computes."""

import numpy as np
import pytest

from tersor.factor import parse_factor
from tersor.layer import Layer
from tersor.passes.decomposition.composed import composed
from tersor.passes.decomposition.factor_weight import factor_weight
from tests.passes.decomposition.chains import composed as convolved
from tests.passes.decomposition.chains import dense

CONV = Layer("w", "conv2d", K=12, C=8, R=3, S=3, P=4, Q=4)
DENSE = Layer("w", "matmul", N=2, K=24, C=16)


@pytest.mark.parametrize("text", ["rank5", "spatial4", "tucker4x6", "cp7", "filtergroups4"])
def test_convolutions(text: str) -> None:
    weight = np.random.default_rng(0).normal(size=CONV.weight_shape).astype(np.float32)
    factor = parse_factor(text)
    assert factor
    parts = factor_weight(weight, factor)
    expected = convolved([dense(parts[0], CONV.C), *parts[1:]])
    np.testing.assert_allclose(composed(parts, factor, weight.shape), expected, atol=1e-5)


def test_dense_layers() -> None:
    weight = np.random.default_rng(0).normal(size=DENSE.weight_shape).astype(np.float32)
    factor = parse_factor("rank5")
    assert factor
    first, second = factor_weight(weight, factor)
    np.testing.assert_allclose(composed((first, second), factor, weight.shape), first @ second, atol=1e-5)


def test_a_tensor_train_of_full_rank_is_the_weight() -> None:
    weight = np.random.default_rng(0).normal(size=DENSE.weight_shape).astype(np.float32)
    factor = parse_factor("tt99")
    assert factor
    parts = factor_weight(weight, factor)
    np.testing.assert_allclose(composed(parts, factor, weight.shape), weight, atol=1e-5)


def test_a_preview_has_no_weight() -> None:
    factor = parse_factor("svdsoftmax2x4")
    assert factor
    with pytest.raises(ValueError, match="chooses outputs"):
        composed((), factor, (4, 64))
