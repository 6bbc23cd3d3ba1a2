"""Samples are layers of their family, spread over what networks have, the same ones for a seed."""

import pytest

from tersor.scheme import FP32, INT8
from tersor.tuning.kernel_family import KernelFamily
from tersor.tuning.layer_samples import MOST_MACS, SIZES, samples

FAMILIES = list(KernelFamily.all())


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_samples_are_of_their_family_and_small_enough(family: KernelFamily) -> None:
    found = samples(family, 64)
    assert len(set(found)) == 64
    scheme = INT8 if family.precision == "int8" else FP32
    assert {KernelFamily.of(layer, scheme) for layer in found} == {family}
    assert max(layer.macs for layer in found) <= MOST_MACS


def test_samples_are_spread() -> None:
    convolutions = samples(KernelFamily("conv2d", "int8"), 64)
    assert len({layer.P for layer in convolutions}) > 0.8 * len(SIZES)
    assert {layer.R for layer in convolutions} >= {1, 3, 5}
    assert {layer.stride for layer in convolutions} == {(1, 1), (2, 2)}
    products = samples(KernelFamily("matmul", "fp32"), 64)
    assert 16 < sum(layer.weight_bearing for layer in products) < 48


def test_the_seed_says_which() -> None:
    family = FAMILIES[0]
    assert samples(family, 20, 1) == samples(family, 20, 1)
    assert set(samples(family, 20, 1)) != set(samples(family, 20, 2))
