import numpy as np
from onnx import TensorProto, helper

from tersor.frontend.fold import GROWTH, fold_constants
from tersor.frontend.graph import Graph
from tersor.frontend.static_shapes import make_static
from tests.models import shape_net


def graph_of(nodes, constants, outputs=("y",), shape=(2, 3, 4)):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    return Graph("g", (x,), outputs, tuple(nodes), constants, (helper.make_opsetid("", 17),))


def kinds(graph):
    return [node.op_type for node in graph.nodes]


def test_shape_subgraphs_become_constants():
    graph = fold_constants(make_static(Graph.read(shape_net()), {}))
    assert kinds(graph) == ["Pad", "Conv", "Relu", "Reshape", "MatMul", "Add"]
    np.testing.assert_array_equal(graph.constants[graph.nodes[3].input[1]], [1, -1])


def test_chains_of_constants_are_computed():
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Mul", ["t", "two"], ["m"]),
        helper.make_node("MatMul", ["x", "m"], ["y"]),
    ]
    w = np.arange(20, dtype=np.float32).reshape(5, 4)
    graph = fold_constants(graph_of(nodes, {"w": w, "two": np.array(2, np.float32)}))
    assert kinds(graph) == ["MatMul"]
    np.testing.assert_array_equal(graph.constants["m"], 2 * w.T)
    assert list(graph.constants) == ["m"]


def test_a_fold_must_not_blow_up_the_model():
    nodes = [
        helper.make_node("Expand", ["one", "size"], ["big"]),
        helper.make_node("Add", ["x", "big"], ["y"]),
    ]
    one = np.ones(1, np.float32)
    small = {"one": one, "size": np.array([2, 3, 4])}
    huge = {"one": one, "size": np.array([GROWTH, 3, 4])}
    assert kinds(fold_constants(graph_of(nodes, small))) == ["Add"]
    assert kinds(fold_constants(graph_of(nodes, huge, shape=(1, 3, 4)))) == ["Expand", "Add"]


def test_identities_are_dropped_but_outputs_keep_their_names():
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Dropout", ["a"], ["b", "mask"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    graph = fold_constants(graph_of(nodes, {}))
    assert [(n.op_type, *n.input, *n.output) for n in graph.nodes] == [
        ("Relu", "x", "d"),
        ("Identity", "d", "y"),
    ]


def test_casts_that_change_the_type_stay():
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)]
    assert kinds(fold_constants(graph_of(nodes, {}))) == ["Cast"]


def test_quantized_weights_keep_their_codes():
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"codes": np.ones((4, 5), np.int8), "scale": np.array(0.5, np.float32)}
    graph = fold_constants(graph_of(nodes, constants))
    assert kinds(graph) == ["DequantizeLinear", "MatMul"]
    assert graph.constants["codes"].dtype == np.int8


def test_parts_of_a_shape_are_read_by_start_and_end():
    nodes = [
        helper.make_node("Shape", ["x"], ["last"], start=-1),
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Add", ["last", "size"], ["sum"]),
        helper.make_node("Reshape", ["x", "sum"], ["y"]),
    ]
    graph = fold_constants(graph_of(nodes, {}))
    np.testing.assert_array_equal(graph.constants["sum"], [4 + 24])
