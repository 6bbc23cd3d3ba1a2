"""The opened network gives what a network compiled with those weights gives, bit for bit."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

import tersor
from tersor.ir.graph import replace_weights
from tersor.model import Model
from tersor.perturbed import Perturbed
from tests.models import conv_kinds, masked_attention, mobile_net, random_inputs

SHAPES = {"x": [(1, 5, 16)], "mask": [(1, 5)]}


@pytest.mark.parametrize("source", [conv_kinds(), mobile_net()], ids=["conv_kinds", "mobile_net"])
def test_other_weights_need_no_other_build(source: onnx.ModelProto) -> None:
    model, sample = tersor.load_model(source, check=False), random_inputs(source)
    check_other_weights(model, sample)


def test_products_of_attention_have_other_weights_too() -> None:
    model = tersor.load_model(masked_attention(), SHAPES, check=False)
    random = np.random.default_rng(0)
    sample = {name: random.normal(size=shape).astype(dtype) for name, (shape, dtype) in model.inputs.items()}
    check_other_weights(model, sample)


def check_other_weights(model: Model, sample: dict[str, np.ndarray]) -> None:
    network = Perturbed(model)
    network.load(sample)
    assert all(map(np.array_equal, network.run(), model.float_runner(sample)))
    random = np.random.default_rng(0)
    others = {
        name: (value * random.uniform(0.8, 1.2, value.shape)).astype(np.float32)
        for name, value in network.weights.items()
        if value.dtype == np.float32
    }
    built = replace(model, mod=replace_weights(model.mod, others)).float_runner(sample)
    assert not np.array_equal(built[0], network.run()[0])
    assert all(map(np.array_equal, network.run(others), built))


def test_an_error_is_added_to_what_a_layer_reads() -> None:
    source = conv_kinds()
    model, sample = tersor.load_model(source, check=False), random_inputs(source)
    network = Perturbed(model)
    network.load(sample)
    layer, (tensor,) = next((name, reads) for name, reads in network.reads.items() if reads == ["x"])
    error = np.random.default_rng(0).normal(size=sample[tensor].shape).astype(np.float32)
    expected = model.float_runner({tensor: sample[tensor] + error})
    assert all(map(np.array_equal, network.run(errors={(layer, 0): error}), expected))
