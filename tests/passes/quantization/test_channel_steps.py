from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from tersor.ir.graph import Graph, operator, weights_of
from tersor.passes.integerize import integerize
from tersor.passes.quantization.channel_steps import channel_steps
from tersor.passes.quantization.quantize import grids, quantize
from tersor.scheme import FP32, INT8
from tests.relax_modules import Net, compiled, he, samples, schemes_for, statistics_of

op = relax.op
REACH = np.array([0.01, 0.1, 1, 10], np.float32)  # of the channels that the depthwise layer reads
EXTREMES = st.floats(-100, 0), st.floats(0, 100), st.floats(0, 10)


@given(st.lists(st.tuples(*EXTREMES), min_size=1, max_size=6))
def test_the_codes_of_every_channel_reach_its_ends(channels: list[tuple[float, float, float]]) -> None:
    low, high, gain = np.array(channels).T
    steps, zero_point = channel_steps(low, high, gain)
    assert 0 <= zero_point <= 255
    assert (steps > 0).all()
    assert (low >= -zero_point * steps.astype(float) * (1 + 1e-6) - 1e-30).all()
    assert (high <= (255 - zero_point) * steps.astype(float) * (1 + 1e-6) + 1e-30).all()


def test_the_zero_point_is_the_one_with_the_least_noise_behind_the_layer() -> None:
    low, high = np.array([-1.0, 0.0]), np.array([0.0, 1.0])
    loud_below, loud_above = (channel_steps(low, high, np.array(gain))[1] for gain in ([1e6, 1], [1, 1e6]))
    assert loud_below > 200
    assert loud_above < 55
    assert channel_steps(low, high, np.ones(2))[1] in (127, 128)


def test_a_channel_without_values_has_a_step() -> None:
    steps, zero_point = channel_steps(np.zeros(2), np.array([0.0, 2.55]), np.ones(2))
    np.testing.assert_allclose(steps, [1, 0.01])
    assert zero_point == 0


def uneven_net(also: bool = False, relu: bool = False) -> tvm.IRModule:
    """A layer, an activation, a depthwise layer with two results per channel that evens the channels out."""
    net, rng = Net((1, 3, 8, 8)), np.random.default_rng(0)
    y = net.conv(net.inputs[0], "a", he(rng, 4, 3, 1, 1) * REACH[:, None, None, None])
    y = net.emit(op.nn.relu(y)) if relu else net.emit(op.tanh(y))
    weight = he(rng, 8, 1, 3, 3) / np.repeat(REACH, 2)[:, None, None, None]
    z = net.conv(y, "d", weight, rng.normal(size=8).astype("f4"), groups=4, padding=(1, 1, 1, 1))
    return net.finish(z, net.conv(y, "e", he(rng, 2, 4, 1, 1))) if also else net.finish(z)


def noise(mod: tvm.IRModule, data: list[np.ndarray], compressed: tvm.IRModule) -> np.ndarray:
    """The noise over the signal of each channel of the first result."""
    runs = compiled(mod, 0), compiled(compressed, 0)
    both = [tuple(run(x)[0] for run in runs) for x in data]
    expected, got = (np.stack(each) for each in zip(*both, strict=True))
    axes = (0, 1, 3, 4)
    return np.square(got - expected).mean(axes) / np.square(expected).mean(axes)


def test_narrow_channels_lose_no_more_than_wide_ones() -> None:
    mod, data = uneven_net(), samples(1, 3, 8, 8)
    statistics = statistics_of(mod, data)
    stepped = noise(mod, data, quantize(mod, schemes_for(mod, INT8), statistics))
    assert stepped.max() < 1e-3
    # Another layer that reads all channels at once leaves them one step, and the narrowest drown in it.
    other = uneven_net(also=True)
    shared = noise(other, data, quantize(other, schemes_for(other, INT8), statistics_of(other, data)))
    assert shared.max() > 100 * stepped.max()


def test_the_integer_operators_compute_what_the_rounded_network_says() -> None:
    mod, data = uneven_net(), samples(1, 3, 8, 8)
    schemes = {**schemes_for(mod, INT8), "a.weight": FP32}  # so that both read the same codes
    rounded = quantize(mod, schemes, statistics_of(mod, data))
    integer = integerize(rounded)
    assert str(weights_of(integer)["d.weight"].dtype) == "int8"
    run_rounded, run_integer = compiled(rounded, 0), compiled(integer, 0)
    for x in data:
        (expected,), (got,) = run_rounded(x), run_integer(x)
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("net", [{"also": True}, {"relu": True}])
def test_what_has_other_readers_or_is_made_of_codes_has_one_step(net: dict[str, Any]) -> None:
    mod = uneven_net(**net)
    statistics = statistics_of(mod, samples(1, 3, 8, 8))
    found = grids(mod, schemes_for(mod, INT8), statistics)
    assert not any(grid.steps for grid in found.values())


def test_an_activation_behind_a_float_layer_has_channel_steps() -> None:
    mod = uneven_net(relu=True)
    statistics = statistics_of(mod, samples(1, 3, 8, 8))
    schemes = {**schemes_for(mod, INT8), "a.weight": FP32}
    (grid,) = (grid for grid in grids(mod, schemes, statistics).values() if grid.steps)
    assert grid.zero_point == 0
    assert len(grid.steps) == 4


def test_a_tensor_keeps_its_steps_where_it_is_also_returned() -> None:
    net, rng = Net((1, 4, 8, 8)), np.random.default_rng(0)
    y = net.emit(op.tanh(net.inputs[0]))
    mod = net.finish(y, net.conv(y, "d", he(rng, 4, 1, 3, 3), groups=4))
    after = quantize(mod, schemes_for(mod, INT8), statistics_of(mod, samples(1, 4, 8, 8)))
    assert "d.weight.inverse_steps" in weights_of(after)
    graph = Graph(after)
    assert operator(graph.definition(graph.outputs[0])) == "tanh"
