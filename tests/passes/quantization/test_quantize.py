import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tersor.error import UserError
from tersor.ir.graph import Graph, operator, weights_of
from tersor.passes.quantization.bias_correction import bias_correction
from tersor.passes.quantization.quantize import Quantization, grids, quantize
from tersor.passes.quantization.ranges import affine, ranges
from tersor.passes.quantization.weights import dequantize_weight
from tersor.scheme import FP32, INT8, Scheme
from tersor.statistics import Statistics
from tests.relax_modules import Net, he, residual_net, run, samples, schemes_for, statistics_of
from tests.rounded_weights import quantize_weight

op = relax.op
W = np.array([[1, -2, 0.5], [0.25, 1, -1]], np.float32)
B = np.array([0.5, 0, -0.5], np.float32)


def bare(mod: tvm.IRModule) -> tvm.IRModule:
    """The module without the values of its weights."""
    function = mod["main"].without_attr("params").without_attr("num_input")
    result = tvm.IRModule(dict(mod.functions.items()))
    result.update_func(result.get_global_var("main"), function)
    return relax.transform.CanonicalizeBindings()(result)


@functools.cache
def residual() -> tuple[tvm.IRModule, Statistics]:
    mod = residual_net()
    return mod, statistics_of(mod, samples(1, 8, 10, 10))


def quantized(mod: tvm.IRModule, x: list[np.ndarray]) -> tvm.IRModule:
    return quantize(mod, schemes_for(mod, INT8), statistics_of(mod, x))


@I.ir_module
class TwoLayers:
    """The numbers: inputs -1 .. 1 (scale 2 / 255), first result 0 .. 2.55 (scale 0.01)."""

    @R.function
    def main(
        x: R.Tensor((1, 2), "float32"),
        b: R.Tensor((3,), "float32"),
        w: R.Tensor((2, 3), "int8"),
        w_scale: R.Tensor((3,), "float32"),
        v: R.Tensor((3, 2), "int8"),
        v_scale: R.Tensor((2,), "float32"),
    ):
        with R.dataflow():
            xq = R.quantize(x, R.const(2 / 255, "float32"), R.const(127, "uint8"), out_dtype="uint8")
            xd = R.dequantize(xq, R.const(2 / 255, "float32"), R.const(127, "uint8"))
            wd = R.dequantize(w, w_scale, R.const(0, "int8"), axis=1)
            y = R.matmul(xd, wd)
            a = R.add(y, b)
            r = R.nn.relu(a)
            rq = R.quantize(r, R.const(0.01, "float32"), R.const(0, "uint8"), out_dtype="uint8")
            rd = R.dequantize(rq, R.const(0.01, "float32"), R.const(0, "uint8"))
            vd = R.dequantize(v, v_scale, R.const(0, "int8"), axis=1)
            z = R.matmul(rd, vd)
            R.output(z)
        return z


def two_layers() -> tuple[tvm.IRModule, Statistics]:
    net = Net((1, 2))
    y = net.emit(op.nn.relu(net.dense(net.inputs[0], "w", W, B)))
    mod = net.finish(net.dense(y, "v", W.T.copy()))
    found = statistics_of(mod, samples(1, 2))
    x, r = found.tensors["x"], found.tensors["w.weight:out"]
    tensors = {**found.tensors, "x": spanning(x, -1, 1), "w.weight:out": spanning(r, 0, 2.55)}
    return mod, Statistics(tensors)


def spanning(statistics: Any, low: float, high: float) -> Any:
    return replace(statistics, minimum=low, maximum=high, lo=min(low, 0.0), hi=high)


def test_layers_read_dequantized_codes_and_keep_their_chain() -> None:
    mod, statistics = two_layers()
    after = quantize(mod, schemes_for(mod, INT8), statistics, "minmax", correct_bias=False)
    tvm.ir.assert_structural_equal(bare(after), bare(TwoLayers), map_free_vars=True)


@I.ir_module
class TwoLayersOfFewBits:
    """The second layer reads 4 bits: 0 .. 2.55 in 15 steps. The first reads 3: -1 .. 1 in 7."""

    @R.function
    def main(
        x: R.Tensor((1, 2), "float32"),
        b: R.Tensor((3,), "float32"),
        w: R.Tensor((2, 3), "int8"),
        w_scale: R.Tensor((3,), "float32"),
        v: R.Tensor((3, 2), "int8"),
        v_scale: R.Tensor((2,), "float32"),
    ):
        with R.dataflow():
            xq = R.quantize(x, R.const(2 / 7, "float32"), R.const(3, "uint8"), out_dtype="uint8")
            xc = R.clip(xq, R.prim_value(0), R.prim_value(7))
            xd = R.dequantize(xc, R.const(2 / 7, "float32"), R.const(3, "uint8"))
            wd = R.dequantize(w, w_scale, R.const(0, "int8"), axis=1)
            y = R.matmul(xd, wd)
            a = R.add(y, b)
            r = R.nn.relu(a)
            rq = R.quantize(r, R.const(0.17, "float32"), R.const(0, "uint8"), out_dtype="uint8")
            rc = R.clip(rq, R.prim_value(0), R.prim_value(15))
            rd = R.dequantize(rc, R.const(0.17, "float32"), R.const(0, "uint8"))
            vd = R.dequantize(v, v_scale, R.const(0, "int8"), axis=1)
            z = R.matmul(rd, vd)
            R.output(z)
        return z


def test_codes_of_fewer_bits_are_clipped() -> None:
    mod, statistics = two_layers()
    schemes = {"w.weight": Scheme.parse("w8a3"), "v.weight": Scheme.parse("w8a4")}
    after = quantize(mod, schemes, statistics, "minmax", correct_bias=False)
    tvm.ir.assert_structural_equal(bare(after), bare(TwoLayersOfFewBits), map_free_vars=True)


def test_grids_of_fewer_bits_have_their_own_ranges() -> None:
    """By the least squares of such steps more is clipped than by those of 8 bits."""
    mod, statistics = residual()
    found = grids(mod, schemes_for(mod, Scheme.parse("w8a4")), statistics)
    low, high = ranges(statistics.tensors["x"], "mse", 4)
    assert (low, high) != ranges(statistics.tensors["x"], "mse")
    scale, zero_point = affine(low, high, 4)
    assert found["x"] == Quantization(float(scale), zero_point, most=15)


def test_weights_are_codes_with_a_scale_per_output_channel() -> None:
    mod, statistics = two_layers()
    weights = weights_of(quantize(mod, schemes_for(mod, INT8), statistics))
    codes, scale = quantize_weight(W, 1)
    np.testing.assert_array_equal(weights["w.weight"], codes)
    np.testing.assert_array_equal(weights["w.weight.scale"], scale)
    assert weights["w.weight"].dtype == np.int8


def test_grids_are_the_ranges_of_the_statistics() -> None:
    mod, statistics = residual()
    for method in ("minmax", "mse"):
        graph = Graph(quantize(mod, schemes_for(mod, INT8), statistics, method))
        first = next(value for _, value in graph.bindings if operator(value) == "quantize")
        scale, zero_point = affine(*ranges(statistics.tensors["x"], method))
        assert graph.value(first.args[1]) == scale
        assert graph.value(first.args[2]) == zero_point


def test_the_mean_error_of_rounded_weights_goes_into_the_bias() -> None:
    mod, statistics = two_layers()
    weights = weights_of(quantize(mod, schemes_for(mod, INT8), statistics))
    rounded = dequantize_weight(*quantize_weight(W, 1), 1)
    correction = bias_correction(W, rounded, statistics.tensors["x"].mean)
    np.testing.assert_array_equal(weights["w.weight.bias"], B + correction)
    # The second layer has no bias and gets one.
    assert weights["v.weight.bias"].shape == (2,)
    assert "v.weight.bias" not in weights_of(
        quantize(mod, schemes_for(mod, INT8), statistics, correct_bias=False)
    )


def test_a_corrected_convolution_bias_keeps_its_shape() -> None:
    net, rng = Net((1, 4, 5, 5)), np.random.default_rng(0)
    mod = net.finish(
        net.conv(net.inputs[0], "g", he(rng, 6, 2, 3, 3), rng.normal(size=6).astype("f4"), groups=2)
    )
    assert weights_of(quantized(mod, samples(1, 4, 5, 5)))["g.weight.bias"].shape == (1, 6, 1, 1)


def test_without_integer_layers_nothing_changes() -> None:
    mod, statistics = residual()
    for schemes in ({}, schemes_for(mod, FP32)):
        tvm.ir.assert_structural_equal(quantize(mod, schemes, statistics), mod)


def test_a_layer_left_in_fp32_reads_and_writes_float() -> None:
    mod, statistics = residual()
    after = quantize(mod, {**schemes_for(mod, INT8), "c.weight": FP32}, statistics)
    weights = weights_of(after)
    assert weights["c.weight"].dtype == np.float32
    np.testing.assert_array_equal(weights["c.weight"], weights_of(mod)["c.weight"])
    assert "c.weight.scale" not in weights
    graph = Graph(after)
    (head,) = [var for var, value in graph.bindings if any(a.same_as(w) for a in getattr(value, "args", [])
               for w in graph.weights if w.name == "c.weight")]  # fmt: skip
    # Its bias and activation come first, and only then is its result rounded for the layer behind it.
    bias = graph.only_user(head)
    clip = graph.only_user(bias)
    assert [operator(graph.definition(var)) for var in (bias, clip)] == ["add", "clip"]
    assert operator(graph.definition(graph.only_user(clip))) == "quantize"


def test_a_result_that_no_integer_layer_reads_stays_float() -> None:
    mod, statistics = residual()
    graph = Graph(quantize(mod, schemes_for(mod, INT8), statistics))
    (output,) = graph.outputs
    assert operator(graph.definition(output)) == "add"


def test_an_operator_without_an_integer_form_reads_floats() -> None:
    net, rng = Net((1, 4, 6, 6)), np.random.default_rng(0)
    (x,) = net.inputs
    y = net.conv(x, "a", he(rng, 4, 4, 1, 1))
    gated = net.emit(op.multiply(y, net.emit(op.sigmoid(y))))
    mod = net.finish(net.conv(gated, "b", he(rng, 4, 4, 1, 1)))
    graph = Graph(quantized(mod, samples(1, 4, 6, 6)))
    kinds = [operator(value) for _, value in graph.bindings]
    assert kinds.count("quantize") == 2  # the input, and what the second layer reads
    sigmoid = next(value for _, value in graph.bindings if operator(value) == "sigmoid")
    assert operator(graph.definition(sigmoid.args[0])) in ("nn.conv2d", "add")


def test_what_moves_codes_keeps_their_grid() -> None:
    net, rng = Net((1, 4, 6, 6)), np.random.default_rng(0)
    pooled = net.emit(op.nn.max_pool2d(net.inputs[0], [2, 2], [2, 2]))
    flat = net.emit(op.reshape(pooled, (1, 36)))
    mod = net.finish(net.dense(flat, "fc", he(rng, 36, 3, fan_in=36)))
    graph = Graph(quantized(mod, samples(1, 4, 6, 6)))
    grids = {
        (float(graph.value(value.args[1])), int(graph.value(value.args[2])))
        for _, value in graph.bindings
        if operator(value) == "quantize"
    }
    assert len(grids) == 1


@pytest.mark.parametrize("missing", ["x", "a.weight:out", "mean.1"])
def test_statistics_that_lack_a_tensor_are_refused(missing: str) -> None:
    mod, statistics = residual()
    less = Statistics({name: each for name, each in statistics.tensors.items() if name != missing})
    with pytest.raises(UserError, match=f"lack the tensor '{missing}'"):
        quantize(mod, schemes_for(mod, INT8), less)


def test_a_weight_that_something_else_reads_too_is_kept_in_float_for_it() -> None:
    net = Net((2, 2))
    square = np.array([[1, 2], [3, -4]], np.float32)
    product = net.dense(net.inputs[0], "w", square)
    mod = net.finish(net.emit(op.add(product, net.weight("w.weight", square))))
    (x,) = samples(2, 2, count=1)
    after = quantized(mod, [x])
    weights = weights_of(after)
    assert weights["w.weight"].dtype == np.int8
    np.testing.assert_array_equal(weights["w.weight.fp32"], square)
    np.testing.assert_allclose(run(after, x)[0], x @ square + square, atol=0.1)


def test_the_quantized_network_is_near_the_network() -> None:
    mod, statistics = residual()
    x, *_ = samples(1, 8, 10, 10)
    (exact,), (rounded,) = run(mod, x), run(quantize(mod, schemes_for(mod, INT8), statistics), x)
    assert 10 * np.log10(np.square(exact).sum() / np.square(exact - rounded).sum()) > 30
