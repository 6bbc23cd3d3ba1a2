import numpy as np
import onnx
import pytest

from tersor.frontend.graph import Graph
from tersor.frontend.quantized import by_name, dequantize_constants
from tersor.frontend.verification import run_reference
from tests.quantized_models import Qdq, nncf_style


def constants(model: onnx.ModelProto) -> tuple[Graph, dict[str, np.ndarray]]:
    graph, found = dequantize_constants(Graph.read(model))
    return graph, by_name(graph, found)


def dense(dtype: str, zero_point: int, axis: int) -> onnx.ModelProto:
    net = Qdq((1, 6))
    weight = net.weight("fc.weight", (6, 4), zero_point, dtype, axis)
    net.op("MatMul", "x", weight, name="y")
    return net.finish("y", rank=2)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", 0), ("uint8", 128), ("uint8", 90)])
def test_constants_become_the_values_that_the_nodes_compute(dtype: str, zero_point: int, axis: int) -> None:
    model = dense(dtype, zero_point, axis)
    graph, _ = constants(model)
    assert [node.op_type for node in graph.nodes] == ["MatMul"]
    name = "dq_output_fc.weight_1"
    expected = run_reference(model, {"x": np.zeros((1, 6), np.float32)}, [name])[name]
    np.testing.assert_allclose(graph.constants["fc.weight"], expected, rtol=1e-6)


def test_codes_lie_beside_the_values_with_the_zero_point_0() -> None:
    model = dense("uint8", 128, 1)
    graph, codes = constants(model)
    came = onnx.numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(codes["fc.weight"], came.astype(int) - 128)
    assert codes["fc.weight"].dtype == np.int8
    assert graph.constants["fc.weight"].dtype == np.float32


def test_codes_that_int8_cannot_hold_are_values_only() -> None:
    graph, codes = constants(dense("uint8", 60, 1))
    assert codes == {}
    assert "fc.weight" in graph.constants


def test_biases_become_float() -> None:
    net = Qdq((1, 6))
    codes = net.constant("b_quantized", np.array([100, -200, 3000, 1 << 20], np.int32))
    scale = net.constant("b_scale", np.full(4, 1e-4, np.float32))
    net.op("DequantizeLinear", codes, scale, name="b", axis=0)
    net.op("Gemm", "x", net.constant("w", np.ones((6, 4), np.float32)), "b", name="y")
    graph, found = constants(net.finish("y", rank=2))
    np.testing.assert_allclose(graph.constants["b"], [0.01, -0.02, 0.3, 104.8576], rtol=1e-6)
    assert found == {}


def test_what_tools_put_around_a_weights_name_is_gone() -> None:
    graph, codes = constants(nncf_style())
    assert list(codes) == ["stem.weight", "depthwise.weight", "project.weight", "fc.weight"]
    assert {"stem.weight", "fc.bias"} <= set(graph.constants)


def test_activations_keep_their_grids() -> None:
    graph, _ = constants(nncf_style())
    kinds = [node.op_type for node in graph.nodes]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 6
