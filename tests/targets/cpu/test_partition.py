from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir import operators
from tersor.ir.graph import Graph, operator
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8
from tersor.targets.cpu.kernels.epilogue import Activation, Requantize, Rescale, Residual
from tersor.targets.cpu.partition import Composite, is_convolution_input, partition
from tests.relax_modules import Net, residual_net, samples, schemes_for, statistics_of

op = relax.op


@pytest.fixture(scope="module")
def integer() -> Graph:
    mod = residual_net()
    statistics = statistics_of(mod, samples(1, 8, 10, 10, count=1))
    return Graph(integerize(quantize(mod, schemes_for(mod, INT8), statistics)))


def by_layer(graph: Graph) -> dict[str, Composite]:
    return {composite.layer: composite for composite in partition(graph).values()}


def test_every_layer_of_an_integer_network_is_one_composite(integer: Graph) -> None:
    found = by_layer(integer)
    assert list(found) == ["a.weight", "b.weight", "c.weight", "d.weight", "down.weight", "fc.weight"]
    inside = {var for composite in found.values() for var in (*composite.interior, composite.result)}
    outside = [value for var, value in integer.bindings if var not in inside]
    kinds = [
        getattr(operators.read_operator(integer.mod, value), "name", operator(value)) for value in outside
    ]
    assert kinds == ["quantize", "average_pool", "reshape"]


def test_a_composite_pads_by_the_zero_point(integer: Graph) -> None:
    first = by_layer(integer)["a.weight"]
    (quantized, call) = integer.bindings[0]
    step = operators.read_operator(integer.mod, call)
    assert isinstance(step, operators.Quantize)
    assert first.data.same_as(quantized)
    assert first.zero_point == step.zero_point
    assert first.padding == (1, 1, 1, 1)
    unpadded = by_layer(integer)["down.weight"]
    assert (unpadded.zero_point, unpadded.padding) == (0, (0, 0, 0, 0))


def test_epilogues_carry_bounds_residuals_and_rescaling(integer: Graph) -> None:
    found = by_layer(integer)
    first, added, last = (found[f"{name}.weight"] for name in ("a", "b", "fc"))
    assert isinstance(first.epilogue, Requantize)
    assert first.epilogue.bounds == (first.epilogue.zero_point, 255)
    assert first.epilogue.residual is None
    assert first.residual is None
    assert isinstance(added.epilogue, Requantize)
    assert isinstance(added.epilogue.residual, Residual)
    assert added.residual.same_as(integer.bindings[0][0])
    assert last.epilogue == Rescale()
    assert last.bias.shape == last.multiplier.shape == (10,)
    assert last.bias.dtype == np.int32


def test_uneven_padding_is_top_left_bottom_right() -> None:
    net = Net((1, 2, 5, 5), "uint8")
    padded = net.emit(op.nn.pad(net.inputs[0], [0, 0, 0, 0, 1, 2, 3, 4], "constant", 9))
    (found,) = partition(Graph(layer_on(net, padded))).values()
    assert (found.padding, found.zero_point) == ((1, 3, 2, 4), 9)


def layer_on(net: Net, x: Any, *more: Any, bias: int = 0, multiplier: float = 1e-3) -> tvm.IRModule:
    weight = net.weight("w", np.ones((3, 2, 1, 1), np.int8))
    product = net.emit(op.nn.conv2d(x, weight, out_dtype="int32"))
    acc = net.emit(op.add(product, net.weight("b", np.full((1, 3, 1, 1), bias, np.int32))))
    scale = net.weight("m", np.full(3, multiplier, np.float32))
    return net.finish(net.call(operators.Requantize(0), acc, scale), *more)


def test_a_pad_that_others_read_stays_outside() -> None:
    net = Net((1, 2, 5, 5), "uint8")
    padded = net.emit(op.nn.pad(net.inputs[0], [0, 0, 0, 0, 1, 1, 1, 1], "constant", 9))
    (found,) = partition(Graph(layer_on(net, padded, padded))).values()
    assert (found.padding, found.zero_point) == ((0, 0, 0, 0), 0)
    assert len(found.interior) == 2


def test_an_accumulator_that_others_read_has_no_composite() -> None:
    net = Net((1, 2, 5, 5), "uint8")
    weight = net.weight("w", np.ones((3, 2, 1, 1), np.int8))
    product = net.emit(op.nn.conv2d(net.inputs[0], weight, out_dtype="int32"))
    acc = net.emit(op.add(product, net.weight("b", np.zeros((1, 3, 1, 1), np.int32))))
    scale = net.weight("m", np.ones(3, np.float32))
    assert partition(Graph(net.finish(net.call(operators.Requantize(0), acc, scale), acc))) == {}


@pytest.mark.parametrize(
    ("bias", "multiplier", "bounded"), [(0, 1e-3, True), (2**30, 1.0, False), (0, 1e9, False)]
)
def test_accumulators_that_could_leave_the_safe_range_are_told(
    bias: int, multiplier: float, bounded: bool
) -> None:
    net = Net((1, 2, 5, 5), "uint8")
    mod = layer_on(net, net.inputs[0], bias=bias, multiplier=multiplier)
    (found,) = partition(Graph(mod)).values()
    assert isinstance(found.epilogue, Requantize)
    assert found.epilogue.bounded == bounded


@pytest.mark.parametrize(("multiplier", "bounded"), [(1.5, True), (128.0, True), (300.0, False)])
def test_a_residual_that_could_outweigh_a_saturated_term_is_told(multiplier: float, bounded: bool) -> None:
    net = Net((1, 2, 5, 5), "uint8", (1, 3, 5, 5))
    x, residual = net.inputs
    product = net.emit(op.nn.conv2d(x, net.weight("w", np.ones((3, 2, 1, 1), np.int8)), out_dtype="int32"))
    acc = net.emit(op.add(product, net.weight("b", np.zeros((1, 3, 1, 1), np.int32))))
    scale = net.weight("m", np.ones(3, np.float32))
    mod = net.finish(net.call(operators.RequantizeAdd(multiplier, 255, 100), acc, scale, residual))
    (found,) = partition(Graph(mod)).values()
    assert isinstance(found.epilogue, Requantize)
    assert found.epilogue.bounded == bounded


def test_float_layers_are_composites_of_their_chains() -> None:
    found = by_layer(Graph(residual_net()))
    assert [each.epilogue for each in found.values()] == [
        Activation(0.0), Activation(0.0, None, True), Activation(0.0, 6.0), Activation(),
        Activation(0.0, None, True), Activation(),
    ]  # fmt: skip
    assert found["a.weight"].padding == (1, 1, 1, 1)
    assert all(each.bias.dtype == np.float32 for each in found.values())


def test_a_float_layer_without_a_bias_has_zeros() -> None:
    net = Net((1, 4))
    (found,) = partition(
        Graph(net.finish(net.dense(net.inputs[0], "fc", np.ones((4, 3), np.float32))))
    ).values()
    np.testing.assert_array_equal(found.bias, np.zeros(3))


def test_convolutions_say_which_tensors_they_read() -> None:
    graph = Graph(residual_net())
    composites = partition(graph)
    assert is_convolution_input(composites, graph.inputs[0])
    assert not is_convolution_input(composites, graph.outputs[0])
    reshaped = next(var for var, value in graph.bindings if operator(value) == "reshape")
    assert not is_convolution_input(composites, reshaped)
