from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from tvm import relax

from tersor.error import UserError
from tersor.export import export_onnx
from tersor.frontend import import_model, static_model
from tersor.frontend.verification import random_inputs, run_reference
from tersor.ir.operators import Quantize
from tersor.passes.integerize import integerize
from tersor.passes.quantization.imported import imported_layers, why_float
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8, W8A32, Scheme
from tests import models
from tests.quantized_models import nncf_style
from tests.relax_modules import Net, attention_net, run, schemes_for, statistics_of, token_samples

NETWORKS = {
    "conv_net": models.conv_net,
    "mobile_net": models.mobile_net,
    "residual_net": models.residual_net,
    "pool_net": models.pool_net,
    "concat_net": models.concat_net,
    "conv_kinds": models.conv_kinds,
    "mlp": models.mlp,
}


def quantized(model: onnx.ModelProto, scheme: Scheme = INT8) -> Any:
    """The network in QDQ form, its ranges from four samples of unit normals."""
    mod, static = import_model(model), static_model(model)
    samples = [random_inputs(static, seed)["x"] for seed in range(4)]
    return quantize(mod, schemes_for(mod, scheme), statistics_of(mod, samples))


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_computes_what_our_integers_compute(name: str) -> None:
    model = NETWORKS[name]()
    rounded = quantized(model)
    exported = export_onnx(rounded, ["y"])
    x = random_inputs(static_model(model), 9)
    reference: Any = run_reference(exported, x, ["y"])["y"]
    (ours,) = run(integerize(rounded), *x.values())
    # A sum of floats may fall on the other side of a tie: some codes differ by one.
    assert np.abs(ours - reference).max() <= 0.02 * np.abs(reference).max()


@pytest.mark.parametrize("name", ["residual_net", "concat_net"])
def test_codes_of_fewer_bits_are_clipped_between_quantize_and_dequantize(name: str) -> None:
    model = NETWORKS[name]()
    rounded = quantized(model, Scheme.parse("int4"))
    exported = export_onnx(rounded, ["y"])
    made = {node.output[0]: node.op_type for node in exported.graph.node}
    rounded_to = list(made.values()).count("QuantizeLinear")
    clips = [node for node in exported.graph.node if node.op_type == "Clip"]
    assert {made[node.input[0]] for node in clips} == {"QuantizeLinear"}
    assert len(clips) == rounded_to > 3
    x = random_inputs(static_model(model), 9)
    reference: Any = run_reference(exported, x, ["y"])["y"]
    (ours,) = run(integerize(rounded), *x.values())
    steps = np.abs(ours - reference) > 0.02 * np.abs(reference).max()
    assert (
        np.abs(ours - reference).max() <= 0.2 * np.abs(reference).max()
    )  # a code that a tie moves is 1 of 15
    assert steps.mean() < 0.5


def test_attention_and_a_table_of_int8_rows_are_exported() -> None:
    mod, [x, *_] = attention_net(), token_samples()
    schemes = {**schemes_for(mod, INT8), "table": W8A32, "matmul.0": INT8, "matmul.1": INT8}
    rounded = quantize(mod, schemes, statistics_of(mod, token_samples()))
    exported = export_onnx(rounded, ["y"])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in exported.graph.initializer}
    assert sum(array.dtype == np.int8 and array.shape == (11, 8) for array in stored.values()) == 1
    reference: Any = run_reference(exported, {"x": x}, ["y"])["y"]
    (ours,) = run(integerize(rounded), x)
    assert np.abs(ours - reference).max() <= 0.02 * np.abs(reference).max()


def test_layers_have_the_form_that_quantizing_runtimes_know() -> None:
    exported = export_onnx(quantized(models.conv_net()), ["y"])
    graph = exported.graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") == 5  # input, two layers, pooling and what it is reshaped to
    made = {node.output[0]: node for node in graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 3
    for node in layers:
        data, weight, bias = (made[name] for name in node.input)
        assert {data.op_type, weight.op_type, bias.op_type} == {"DequantizeLinear"}
        codes, scale, zero_point = (constants[name] for name in weight.input)
        assert codes.dtype == zero_point.dtype == np.int8
        assert scale.shape == zero_point.shape == (codes.shape[0 if node.op_type == "Conv" else 1],)
        assert constants[bias.input[0]].dtype == np.int32
        np.testing.assert_allclose(constants[bias.input[1]], constants[data.input[1]] * scale, rtol=1e-6)
        assert constants[data.input[2]].dtype == np.uint8
    assert "conv0.weight" in constants
    assert [value.name for value in graph.output] == ["y"]


def test_an_optimizing_session_opens_the_file() -> None:
    exported = export_onnx(quantized(models.conv_net()), ["y"])
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, random_inputs(exported))
    assert result.shape == (1, 10)


def test_what_is_exported_is_imported_as_the_same_integers() -> None:
    rounded = quantized(models.residual_net())
    again = import_model(export_onnx(rounded, ["y"]))
    assert why_float(again) == {}
    assert imported_layers(again) == imported_layers(rounded)
    x = random_inputs(static_model(models.residual_net()))
    for ours, theirs in zip(
        run(integerize(rounded), *x.values()), run(integerize(again), *x.values()), strict=True
    ):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


def test_an_imported_network_is_exported_as_it_came() -> None:
    model = nncf_style()
    exported = export_onnx(import_model(model), ["y"])
    x = random_inputs(model)
    expected, result = run_reference(model, x, ["y"])["y"], run_reference(exported, x, ["y"])["y"]
    assert np.abs(result - expected).max() <= 0.02 * np.abs(expected).max()


def test_exporting_is_deterministic() -> None:
    first, second = (export_onnx(quantized(models.mlp()), ["y"]).SerializeToString() for _ in range(2))
    assert first == second


def test_outputs_that_are_inputs_or_returned_twice_keep_their_names() -> None:
    net = Net((2, 3))
    y = net.emit(relax.op.nn.relu(net.inputs[0]))
    exported = export_onnx(net.finish(net.inputs[0], y, y), ["a", "b", "c"])
    x = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    found = run_reference(exported, {"x": x}, ["a", "b", "c"])
    np.testing.assert_array_equal(found["a"], x)
    np.testing.assert_array_equal(found["b"], np.maximum(x, 0))
    np.testing.assert_array_equal(found["c"], np.maximum(x, 0))


def test_an_operator_without_an_onnx_form_is_refused_by_name() -> None:
    net = Net((1, 8))
    integer = net.finish(net.call(Quantize(0.1, 3), net.inputs[0]))
    with pytest.raises(UserError, match="the operator quantize has no ONNX form"):
        export_onnx(integer, ["y"])
    net = Net((4, 4))
    with pytest.raises(UserError, match=r"the operator triu has no ONNX form"):
        export_onnx(net.finish(net.emit(relax.op.triu(net.inputs[0]))), ["y"])
