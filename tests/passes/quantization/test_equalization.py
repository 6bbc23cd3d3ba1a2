from collections.abc import Callable

import numpy as np
import pytest
import tvm

from tersor.ir.chains import find_chains
from tersor.ir.graph import Array, Expr, Graph, shape_of, weights_of
from tersor.ir.untyped import relax
from tersor.passes.calibrate import calibrate
from tersor.passes.grams import find_windows
from tersor.passes.quantization.equalization import equalize, find_links
from tests.relax_modules import Net, compiled, he, residual_net, samples, statistics_of


def chain_net(clip: float | None = None, seed: int = 0) -> tvm.IRModule:
    """[1, 4, 8, 8]: conv, depthwise, conv, mean, dense, with uneven channels and ReLU or a clip."""
    rng = np.random.default_rng(seed)
    net = Net((1, 4, 8, 8))
    (x,) = net.inputs

    def activation(x: Expr) -> Expr:
        return net.emit(relax.op.nn.relu(x) if clip is None else relax.op.clip(x, 0.0, clip))

    def uneven(*shape: int) -> Array:
        spread = np.exp(rng.normal(0, 1.0, (shape[0], *[1] * (len(shape) - 1)))).astype(np.float32)
        return he(rng, *shape) * spread

    bias = rng.normal(0, 0.1, 12).astype(np.float32)
    x = activation(net.conv(x, "expand", uneven(12, 4, 1, 1), bias))
    x = activation(net.conv(x, "depthwise", uneven(12, 1, 3, 3), bias, padding=[1, 1], groups=12))
    x = activation(net.conv(x, "project", uneven(6, 12, 1, 1)))
    x = net.emit(relax.op.reshape(net.emit(relax.op.mean(x, [2, 3], keepdims=True)), (1, 6)))
    return net.finish(net.dense(x, "fc", he(rng, 6, 5, fan_in=6), rng.normal(0, 0.1, 5).astype("f4")))


def norm_net(seed: int = 0) -> tvm.IRModule:
    """[6, 8]: a layer norm that two dense layers read."""
    rng = np.random.default_rng(seed)
    net = Net((6, 8))
    gain = net.weight("gain", np.exp(rng.normal(0, 1, 8)).astype(np.float32))
    x = net.emit(relax.op.nn.layer_norm(net.inputs[0], gain, net.weight("shift", he(rng, 8, fan_in=8)), [-1]))
    left, right = (net.dense(x, name, he(rng, 8, 7, fan_in=8)) for name in ("left", "right"))
    return net.finish(net.emit(relax.op.add(left, right)))


NETS: dict[str, Callable[[], tvm.IRModule]] = {
    "relu": chain_net,
    "clip": lambda: chain_net(6.0),
    "norm": norm_net,
    "residual": residual_net,
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("by_weights", "alpha"), [(True, 0.0), (False, 0.5), (True, 1.0)])
def test_an_equalized_network_computes_the_same(name: str, by_weights: bool, alpha: float) -> None:
    mod = NETS[name]()
    inputs = samples(*shape_of(Graph(mod).inputs[0]))
    equalized, _ = equalize(mod, statistics_of(mod, inputs), by_weights, alpha)
    changed = [each for each, value in weights_of(mod).items() if weights_of(equalized)[each] is not value]
    assert changed or (name, alpha) == ("norm", 0.0)
    run_equalized, run_plain = compiled(equalized, 0), compiled(mod, 0)
    for sample in inputs:
        np.testing.assert_allclose(run_equalized(sample)[0], run_plain(sample)[0], rtol=1e-4, atol=1e-4)


def test_weights_on_both_sides_of_a_channel_get_one_range() -> None:
    mod, _ = equalize(chain_net(), None, by_weights=True, alpha=0.0)
    weights = weights_of(mod)
    expand = np.abs(weights["expand.weight"]).max(axis=(1, 2, 3))
    depthwise = np.abs(weights["depthwise.weight"]).max(axis=(1, 2, 3))
    project = np.abs(weights["project.weight"]).max(axis=(0, 2, 3))
    np.testing.assert_allclose(expand, depthwise, rtol=0.01)
    np.testing.assert_allclose(depthwise, project, rtol=0.01)


def test_all_of_the_spread_goes_into_the_weights_with_alpha_1() -> None:
    mod, inputs = norm_net(), samples(6, 8)
    equalized, _ = equalize(mod, statistics_of(mod, inputs), by_weights=False, alpha=1.0)
    name = "nn.layer_norm.1"
    seen = statistics_of(equalized, inputs).tensors[name]
    reach = np.maximum(-seen.channel_minimum, seen.channel_maximum)
    np.testing.assert_allclose(reach, np.full(8, reach[0]), rtol=1e-4)


def test_channels_that_meet_a_clip_stay() -> None:
    mod, inputs = chain_net(0.5), samples(1, 4, 8, 8)
    statistics = statistics_of(mod, inputs)
    cut = statistics.tensors["expand.weight:out"].channel_maximum >= 0.5
    assert cut.any()
    equalized, _ = equalize(mod, statistics, by_weights=True, alpha=0.0)
    before, after = (weights_of(each)["expand.weight"] for each in (mod, equalized))
    np.testing.assert_array_equal(before[cut], after[cut])
    assert equalize(mod, None, by_weights=True, alpha=0.0)[1] is None
    assert len(find_links(Graph(mod))) == 3


def test_a_residual_sum_keeps_its_channels() -> None:
    links = find_links(Graph(residual_net()))
    assert [link.tensor for link in links] == ["a.weight:out", "c.weight:out"]


def test_what_is_known_of_the_channels_is_what_calibrating_again_would_say() -> None:
    mod, inputs = chain_net(), samples(1, 4, 8, 8)

    def calibrated(each: tvm.IRModule):
        from tersor.ir.graph import expose
        from tersor.passes.extract import tensor_names

        named, layers = tensor_names(each), [chain.layer for chain in find_chains(Graph(each))]
        observe = compiled(expose(each, list(named)), level=0)
        found = [{"x": sample} for sample in inputs]
        windows = find_windows(each, layers)
        return calibrate(
            lambda x: dict(zip(named.values(), observe(*x.values()), strict=True)), found, windows=windows
        )

    equalized, scaled = equalize(mod, calibrated(mod), by_weights=True, alpha=0.5)
    again = calibrated(equalized)
    assert scaled is not None
    for name, expected in again.tensors.items():
        found = scaled.tensors[name]
        for each in ("mean", "second_moment", "channel_minimum", "channel_maximum"):
            np.testing.assert_allclose(getattr(found, each), getattr(expected, each), rtol=1e-3, atol=1e-5)
    for layer, expected in again.grams.items():
        np.testing.assert_allclose(scaled.grams[layer].mean, expected.mean, rtol=1e-3, atol=1e-5)
        moment = scaled.grams[layer].second_moment
        np.testing.assert_allclose(moment, expected.second_moment, rtol=1e-3, atol=1e-4)


def test_a_weight_of_two_layers_stays() -> None:
    net = Net((2, 4))
    rng = np.random.default_rng(0)
    weight = he(rng, 4, 4, fan_in=4)
    x = net.emit(relax.op.nn.relu(net.dense(net.inputs[0], "shared", weight)))
    mod = net.finish(net.dense(x, "shared", weight))
    assert find_links(Graph(mod)) == []
    assert equalize(mod, None, by_weights=True, alpha=0.0)[0] is mod
