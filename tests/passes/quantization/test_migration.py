from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tersor.ir.graph import Graph, operator, weights_of
from tersor.passes.integerize import integerize
from tersor.passes.quantization.channel_steps import by_input, times_steps
from tersor.passes.quantization.migration import Channels, migration
from tersor.passes.quantization.quantize import grids, quantize
from tersor.scheme import INT8
from tests.relax_modules import Net, compiled, he, samples, schemes_for, statistics_of

op = relax.op
SEEDS = st.integers(0, 2**32 - 1)
UNEVEN = np.geomspace(0.01, 10, 8).astype(np.float32)


def of(inputs: np.ndarray) -> Channels:
    """What is known of the columns of [samples, channels]."""
    return Channels(np.minimum(inputs.min(0), 0.0), np.maximum(inputs.max(0), 0.0), inputs.var(0))


def rounded(values: np.ndarray, low: float, high: float, levels: int) -> np.ndarray:
    step = (high - low) / levels
    return np.rint(values / step) * step


def measured(inputs: np.ndarray, weight: np.ndarray, factors: np.ndarray) -> float:
    """The noise behind a dense layer whose inputs and weights are rounded after the migration."""
    x, w = inputs / factors, weight * factors[:, None]
    step = np.abs(w).max(0) / 127
    result = rounded(x, min(x.min(), 0), max(x.max(), 0), 255) @ (np.rint(w / step) * step)
    return float(np.square(result - inputs @ weight).mean())


# The factors


def test_channels_of_one_range_keep_one_step() -> None:
    inputs = np.random.default_rng(0).normal(size=(500, 16))
    weight = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    assert migration(of(inputs), [weight[:, :, None]], (inputs.min(), inputs.max())) is None


@settings(deadline=None, derandomize=True, max_examples=30)
@given(SEEDS)
def test_what_is_moved_halves_the_noise_that_is_measured(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(500, 24)) * np.exp(rng.normal(0, 2.5, 24))
    weight = (rng.normal(size=(24, 8)) * np.exp(rng.normal(0, 0.5, (24, 1)))).astype(np.float32)
    factors = migration(of(inputs), [weight[:, :, None]], (inputs.min(), inputs.max()))
    assert factors is not None
    assert measured(inputs, weight, factors) < 0.7 * measured(inputs, weight, np.ones(24))


def test_a_tensor_or_a_weight_of_zeros_moves_nothing() -> None:
    weight = np.ones((3, 2, 1), np.float32)
    nothing = Channels(np.zeros(3), np.zeros(3), np.zeros(3))
    something = Channels(np.zeros(3), np.array([0.01, 1, 100.0]), np.ones(3))
    assert migration(nothing, [weight], (0.0, 0.0)) is None
    assert migration(something, [0 * weight], (0.0, 100.0)) is None


def test_a_channel_without_values_has_a_factor() -> None:
    channels = Channels(np.zeros(4), np.array([0, 0.01, 1, 100.0]), np.array([0, 1e-6, 0.1, 1000]))
    factors = migration(channels, [np.ones((4, 2, 1), np.float32)], (0.0, 100.0))
    assert factors is not None
    assert np.isfinite(factors).all()
    assert (factors > 0).all()


# The weights


@pytest.mark.parametrize(
    ("shape", "channels"), [((6, 4), 6), ((4, 6, 3, 1), 6), ((8, 3, 1, 1), 6), ((6, 1, 3, 3), 6)]
)
def test_steps_meet_the_input_channels_of_a_weight(shape: tuple[int, ...], channels: int) -> None:
    steps = tuple(float(step) for step in 2.0 ** np.arange(channels))
    found = times_steps(np.ones(shape, np.float32), steps)
    if len(shape) == 2:
        np.testing.assert_array_equal(found[:, 0], steps)
        return
    groups = channels // shape[1]
    for k in range(shape[0]):
        first = k // (shape[0] // groups) * shape[1]
        np.testing.assert_array_equal(found[k, :, 0, 0], steps[first : first + shape[1]])


def test_by_input_gathers_what_each_channel_meets() -> None:
    weight = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    assert by_input(weight).shape == (3, 2, 4)
    np.testing.assert_array_equal(by_input(weight)[1, 0], weight[0, 1].ravel())
    np.testing.assert_array_equal(by_input(weight[:, :, 0, 0])[:, :, 0], weight[:, :, 0, 0])


# In a network


def uneven_net(view: bool = False, also: bool = False) -> tvm.IRModule:
    """Float channels of very uneven ranges, read by two dense layers, and by an integer sum if `also`."""
    net, rng = Net((4, 8)), np.random.default_rng(0)
    scales = net.weight("scales", UNEVEN)
    x = net.emit(op.multiply(net.emit(op.tanh(net.inputs[0])), scales))
    x = net.emit(op.reshape(x, (2, 2, 8))) if view else x
    outputs = [net.dense(x, name, he(rng, 8, 6, fan_in=8) / UNEVEN[:, None]) for name in ("a", "b")]
    if also:
        outputs.append(net.dense(net.emit(op.add(x, x)), "c", he(rng, 8, 6, fan_in=8)))
    return net.finish(*outputs)


@pytest.mark.parametrize("view", [False, True])
def test_layers_that_read_uneven_channels_share_their_steps(view: bool) -> None:
    mod, data = uneven_net(view), samples(4, 8)
    statistics = statistics_of(mod, data)
    schemes = schemes_for(mod, INT8)
    [grid] = grids(mod, schemes, statistics).values()
    assert len(grid.steps) == 8
    exchanged = quantize(mod, schemes, statistics)
    integer = integerize(exchanged)
    assert [operator(value) for _, value in Graph(exchanged).bindings].count("quantize") == 1
    assert "a.weight.inverse_steps" in weights_of(integer)
    runs = [compiled(each, 0) for each in (mod, exchanged, integer)]
    for x in data:
        for expected, rounded_, got in zip(*(run(x) for run in runs), strict=True):
            np.testing.assert_allclose(got, rounded_, atol=1e-4 * np.abs(expected).max())
            assert np.square(got - expected).mean() < 1e-3 * np.square(expected).mean()


def test_codes_that_a_sum_reads_too_have_one_step() -> None:
    mod = uneven_net(also=True)
    found: dict[str, Any] = grids(mod, schemes_for(mod, INT8), statistics_of(mod, samples(4, 8)))
    assert not any(grid.steps for grid in found.values())
