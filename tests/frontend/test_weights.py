import numpy as np
from onnx import helper

from tersor.frontend.graph import Graph
from tersor.frontend.weights import constant_nodes, name_weights


def graph_of(nodes, constants):
    return Graph("g", (), ("y",), tuple(nodes), constants, (helper.make_opsetid("", 17),))


def test_anonymous_weights_take_the_name_of_their_module():
    w, b = np.ones((4, 4, 1, 1), np.float32), np.ones(4, np.float32)
    nodes = [
        helper.make_node(
            "Conv", ["x", "onnx::Conv_7", "onnx::Conv_8"], ["a"], name="/blocks/blocks.0/conv/Conv"
        ),
        helper.make_node("MatMul", ["a", "onnx::MatMul_9"], ["b"], name="/blocks/blocks.0/fc/MatMul"),
        helper.make_node("Mul", ["b", "onnx::Mul_3"], ["y"], name="/Mul"),
    ]
    constants = {"onnx::Conv_7": w, "onnx::Conv_8": b, "onnx::MatMul_9": w, "onnx::Mul_3": b, "Mul_3": b}
    named = name_weights(graph_of(nodes, constants))
    assert list(named.constants) == [
        "blocks.0.conv.weight",
        "blocks.0.conv.bias",
        "blocks.0.fc.weight",
        "Mul_3.1",
        "Mul_3",
    ]
    assert list(named.nodes[0].input) == ["x", "blocks.0.conv.weight", "blocks.0.conv.bias"]
    assert list(named.nodes[2].input) == ["b", "Mul_3.1"]


def test_a_name_that_is_taken_is_not_taken_twice():
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["a"], name="/fc/MatMul"),
        helper.make_node("MatMul", ["a", "onnx::MatMul_2"], ["y"], name="/fc/MatMul_1"),
    ]
    w = np.ones((2, 2), np.float32)
    named = name_weights(graph_of(nodes, {"onnx::MatMul_1": w, "onnx::MatMul_2": w}))
    assert list(named.constants) == ["fc.weight", "MatMul_2"]


def test_shared_weights_stay_shared():
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::w"], ["a"], name="/fc/MatMul"),
        helper.make_node("MatMul", ["a", "onnx::w"], ["y"]),
    ]
    named = name_weights(graph_of(nodes, {"onnx::w": np.ones((2, 2), np.float32)}))
    assert [node.input[1] for node in named.nodes] == ["fc.weight", "fc.weight"]


def test_shapes_bounds_and_scalars_are_constants_and_the_rest_weights():
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Mul", ["b", "scalar"], ["c"]),
        helper.make_node("Mul", ["c", "vector"], ["d"]),
        helper.make_node("MatMulInteger", ["d", "codes"], ["y"]),
    ]
    one = np.ones(1, np.float32)
    constants = {"low": one, "high": one, "shape": np.array([1, -1]), "scalar": np.array(2.0, np.float32)}
    weights = {"vector": one, "codes": np.ones((2, 2), np.int8)}
    made = constant_nodes(graph_of(nodes, constants | weights))
    assert [node.output[0] for node in made] == ["low", "high", "shape", "scalar"]
