from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor.ir.graph import Graph, operator, weights_of
from tersor.ir.grid import Grid, grid_below
from tersor.passes.quantization.channel_grids import move_channel_grids
from tests.relax_modules import Net, he, run

op = relax.op
SCALES = np.array([0.01, 0.02, 0.015, 0.005], np.float32)


def network(clip: tuple[float, float] | None = (0.0, 1.0), zero_points: Any = 0, twice: bool = False) -> Any:
    """[1, 3, 6, 6]: conv, [clip], scales per channel, depthwise conv with two outputs for each input."""
    rng = np.random.default_rng(0)
    net = Net((1, 3, 6, 6))
    y = net.conv(net.inputs[0], "conv", he(rng, 4, 3, 1, 1), rng.normal(0, 0.1, 4).astype("f4"))
    if clip is not None:
        y = net.emit(op.clip(y, *clip))
    points = np.broadcast_to(np.uint8(zero_points), 4).copy()
    parameters = relax.const(SCALES), relax.const(points)
    codes = net.emit(op.quantize(y, *parameters, axis=1, out_dtype="uint8"))
    real = net.emit(op.dequantize(codes, *parameters, axis=1))
    z = net.conv(real, "depthwise", he(rng, 8, 1, 3, 3), padding=(1, 1), groups=4)
    return net.finish(z, y) if twice else net.finish(z)


def moved(mod: tvm.IRModule) -> bool:
    graph = Graph(move_channel_grids(mod))
    (real,) = (var for var, value in graph.bindings if operator(value) == "dequantize")
    return grid_below(graph, real) is not None


def test_the_weights_take_the_scales_up() -> None:
    before = network(clip=(0.0, 6.0))
    after = move_channel_grids(before)
    graph = Graph(after)
    (real,) = (var for var, value in graph.bindings if operator(value) == "dequantize")
    assert grid_below(graph, real) == Grid(1.0, 0)
    old, new = weights_of(before), weights_of(after)
    scales = SCALES.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(new["conv.weight"], old["conv.weight"] / scales, rtol=1e-6)
    np.testing.assert_allclose(new["conv.bias"], old["conv.bias"] / scales.reshape(1, -1, 1, 1), rtol=1e-6)
    expected = old["depthwise.weight"] * np.repeat(scales, 2, axis=0)
    np.testing.assert_allclose(new["depthwise.weight"], expected, rtol=1e-6)
    assert "clip" not in {operator(value) for _, value in graph.bindings}


def test_what_is_computed_stays_the_same() -> None:
    before = network(clip=(0.0, 6.0))
    x = np.random.default_rng(1).normal(size=(1, 3, 6, 6)).astype(np.float32)
    (expected,), (result,) = run(before, x), run(move_channel_grids(before), x)
    assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_layer_without_activation_may_have_a_zero_point() -> None:
    before = network(clip=None, zero_points=128)
    assert moved(before)
    x = np.random.default_rng(1).normal(size=(1, 3, 6, 6)).astype(np.float32)
    (expected,), (result,) = run(before, x), run(move_channel_grids(before), x)
    assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


def test_scales_stay_where_a_clip_cuts_below_the_last_code() -> None:
    assert not moved(network(clip=(0.0, 1.0)))  # 0.02 * 255 > 1


def test_scales_stay_where_something_else_reads_the_tensor() -> None:
    assert not moved(network(clip=(0.0, 6.0), twice=True))


def test_scales_stay_where_zero_points_differ() -> None:
    assert not moved(network(clip=None, zero_points=[100, 101, 102, 103]))
