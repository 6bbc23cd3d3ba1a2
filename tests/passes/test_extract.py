from typing import Any

import numpy as np
import pytest
from tvm import relax

from tersor.frontend.onnx_import import import_model
from tersor.ir.graph import Builder, Graph, rebind
from tersor.layer import Layer
from tersor.network import Edge
from tersor.passes.extract import extract, tensor_names
from tests import models
from tests.relax_modules import Net, residual_net

op = relax.op


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_layers_are_loop_nests_in_the_order_of_the_network() -> None:
    network = extract(residual_net())
    assert [layer.name for layer in network.layers] == [
        "a.weight", "b.weight", "c.weight", "d.weight", "down.weight", "fc.weight",
    ]  # fmt: skip
    assert network["c.weight"] == Layer(
        "c.weight",
        "conv2d",
        N=1,
        K=12,
        C=8,
        P=5,
        Q=5,
        R=3,
        S=3,
        stride=(2, 2),
        padding=(1, 1, 1, 1),
    )
    assert network["fc.weight"] == Layer("fc.weight", "matmul", N=1, K=10, C=12)
    convolutions = 2 * 100 * 8 * 8 * 9 + 25 * 12 * 8 * 9 + 25 * 12 * 12 * 9 + 25 * 12 * 8
    assert network.macs == convolutions + 120


def test_edges_lead_from_layer_to_layer_through_what_lies_between() -> None:
    assert set(extract(residual_net()).edges) == {
        Edge("x", "a.weight", (1, 8, 10, 10)),
        Edge("a.weight", "b.weight", (1, 8, 10, 10)),
        Edge("x", "b.weight", (1, 8, 10, 10)),  # the residual
        Edge("b.weight", "c.weight", (1, 8, 10, 10)),
        Edge("b.weight", "down.weight", (1, 8, 10, 10)),
        Edge("c.weight", "d.weight", (1, 12, 5, 5)),
        Edge("d.weight", "down.weight", (1, 12, 5, 5)),
        Edge("down.weight", "fc.weight", (1, 12)),
        Edge("fc.weight", "output", (1, 10)),
    }


def test_groups_dilation_and_uneven_padding_are_read() -> None:
    net = Net((2, 6, 9, 9))
    y = net.conv(
        net.inputs[0], "g", ones(8, 3, 3, 2), groups=2, dilation=[2, 1], padding=[1, 0, 2, 1], strides=[1, 2]
    )
    (layer,) = extract(net.finish(y)).layers
    assert (layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q) == (2, 2, 4, 3, 8, 5)
    assert (layer.stride, layer.padding, layer.dilation) == ((1, 2), (1, 0, 2, 1), (2, 1))


def test_a_depthwise_convolution_is_one() -> None:
    net = Net((1, 6, 5, 5))
    (layer,) = extract(net.finish(net.conv(net.inputs[0], "dw", ones(6, 1, 3, 3), groups=6))).layers
    assert layer.is_depthwise


def test_rows_of_a_dense_layer_are_its_batch() -> None:
    net = Net((2, 5, 4))
    (layer,) = extract(net.finish(net.dense(net.inputs[0], "fc", ones(4, 3)))).layers
    assert (layer.N, layer.K, layer.C) == (10, 3, 4)


def test_products_of_computed_tensors_are_layers_without_weights() -> None:
    net = Net((3, 5, 4))
    (x,) = net.inputs
    scores = net.emit(op.matmul(x, net.emit(op.permute_dims(x, [0, 2, 1]))))
    network = extract(net.finish(net.emit(op.matmul(scores, x))))
    first, second = network.layers
    assert (first.G, first.N, first.K, first.C, first.weight_bearing) == (3, 5, 5, 4, False)
    assert (second.G, second.N, second.K, second.C, second.weight_bearing) == (3, 5, 4, 5, False)
    assert len(network.movers) == 1


def test_a_weight_used_twice_is_one_layer() -> None:
    net = Net((1, 4))
    y = net.dense(net.dense(net.inputs[0], "fc", ones(4, 4)), "fc", ones(4, 4))
    network = extract(net.finish(y))
    assert [layer.name for layer in network.layers] == ["fc.weight"]


def test_names_of_tensors_do_not_depend_on_the_numbers_of_variables() -> None:
    mod = residual_net()
    names = tensor_names(mod)
    assert list(names.values()) == [
        "x", "a.weight:out", "b.weight:out", "c.weight:out", "d.weight:out", "down.weight:out",
        "mean.1", "reshape.1", "fc.weight:out",
    ]  # fmt: skip
    graph = Graph(mod)
    builder = Builder(graph)
    values = {var: var for var in graph.inputs}
    values.update({var: builder.weight(var.name, value) for var, value in graph.weights.items()})
    for i, (var, value) in enumerate(graph.bindings):
        values[var] = builder.emit(rebind(value, values), f"renamed{100 - i}")
    renamed = builder.finish([values[output] for output in graph.outputs])
    assert list(tensor_names(renamed).values()) == list(names.values())


def test_every_tensor_that_a_layer_reads_or_returns_has_a_name() -> None:
    mod = import_model(
        models.conv_kinds(),
    )
    names = tensor_names(mod)
    graph = Graph(mod)
    assert len(set(names.values())) == len(names)
    assert set(graph.inputs) | set(graph.outputs) <= set(names)


def test_the_results_of_a_weight_used_twice_are_told_apart() -> None:
    net = Net((1, 4))
    y = net.dense(net.dense(net.inputs[0], "fc", ones(4, 4)), "fc", ones(4, 4))
    assert list(tensor_names(net.finish(y)).values()) == ["x", "fc.weight:out", "fc.weight:out.2"]


def test_parts_of_a_split_have_names_and_the_tuple_has_none() -> None:
    net = Net((2, 6))
    parts = net.emit(op.split(net.inputs[0], 2, axis=1))
    left, right = (net.emit(relax.TupleGetItem(parts, i)) for i in range(2))
    names = tensor_names(net.finish(net.emit(op.multiply(left, right))))
    assert list(names.values()) == ["x", "call.1", "call.2", "multiply.1"]


@pytest.mark.parametrize("build", [models.conv_net, models.mobile_net, models.mlp, models.residual_net])
def test_imported_models_have_their_weight_bearing_layers(build: Any) -> None:
    model = build()
    counted = sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
    assert sum(layer.weight_bearing for layer in extract(import_model(model)).layers) == counted


def test_operators_outside_of_layers_are_named_once_for_each() -> None:
    network = extract(import_model(models.pool_net()))
    assert "nn.max_pool2d" in network.others
    assert not {"nn.conv2d", "matmul", "reshape"} & set(network.others)
