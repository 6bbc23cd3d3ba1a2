"""The opened network gives what a network compiled with those weights gives, bit for bit."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

import tersor
from tersor import arithmetic
from tersor.evaluation.opened import InputGrid
from tersor.evaluation.perturbed import Perturbed
from tersor.ir.graph import replace_weights
from tersor.model import Model
from tests.models import conv_kinds, masked_attention, mlp, mobile_net, random_inputs

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
    network.change(others)
    assert all(map(np.array_equal, network.run(), built))
    network.change()
    assert all(map(np.array_equal, network.run(), model.float_runner(sample)))


def test_what_a_layer_reads_is_put_on_a_grid() -> None:
    source = conv_kinds()
    model, sample = tersor.load_model(source, check=False), random_inputs(source)
    network = Perturbed(model)
    network.load(sample)
    (place,) = next(places for places in network.opened.reads.values() if places[0].tensor == "x")
    x = sample["x"]
    for grid in (InputGrid((0.02,), 128), InputGrid((0.3,), 7, most=15)):
        network.change(grids=[(place, grid)])
        (step,) = map(np.float32, grid.steps)
        rounded = step * (np.clip(np.rint(x / step) + grid.zero, 0, grid.most) - grid.zero).astype(np.float32)
        assert all(map(np.array_equal, network.run(), model.float_runner({"x": rounded})))


def test_each_channel_has_a_step_of_its_own() -> None:
    source = mobile_net()
    model, sample = tersor.load_model(source, check=False), random_inputs(source)
    network = Perturbed(model)
    network.load(sample)
    layer, place = next(
        (name, places[0])
        for name, places in network.opened.reads.items()
        if places[0].channels == network.weights[name].shape[1] > 1
    )
    steps = np.full(place.channels, 1e-6)
    steps[1] = 1e6  # all of this channel is rounded to zero
    without = network.weights[layer].copy()
    without[:, 1] = 0
    network.change({layer: without})
    expected = network.run()
    network.change(grids=[(place, InputGrid(tuple(steps), 1 << 23, most=1 << 24))])
    np.testing.assert_allclose(network.run()[0], expected[0], rtol=1e-4, atol=1e-4)


def test_rows_find_their_own_steps() -> None:
    model = tersor.load_model(mlp(batch=3), check=False)
    sample = {"x": np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)}
    network = Perturbed(model)
    network.load(sample)
    place = next(places[0] for places in network.opened.reads.values() if places[0].tensor == "x")
    network.change(grids=[(place, InputGrid((1.0,), arithmetic.SYMMETRIC_ZERO, by_rows=True))])
    scale = arithmetic.row_scale(sample["x"])
    codes = arithmetic.quantize_rows(sample["x"], scale).astype(np.float32)
    expected = model.float_runner({"x": (codes - arithmetic.SYMMETRIC_ZERO) * scale})
    assert all(map(np.array_equal, network.run(), expected))
