from typing import Any

import numpy as np
import onnx
import pytest
import tvm

from tersor.compression import canonical
from tersor.frontend import import_model, static_model
from tersor.frontend.verification import random_inputs, run_reference
from tersor.ir.graph import weights_of
from tersor.passes.integerize import integerize
from tersor.passes.quantization.imported import as_float, imported_layers, why_float
from tersor.planning import model_hash
from tests import models
from tests.quantized_models import Qdq, by_onnxruntime, floats_between, nncf_style
from tests.relax_modules import run

Array = np.ndarray


def outputs(model: onnx.ModelProto, mod: tvm.IRModule, seed: int = 0) -> tuple[Array, Array]:
    """The first output by onnxruntime, node by node as written, and by the module."""
    static = static_model(model)
    x = random_inputs(static, seed)
    name = static.graph.output[0].name
    reference: Any = run_reference(static, x, [name])[name]
    return reference, run(mod, *x.values())[0]


KINDS = {
    "u8s8": dict(activation="QUInt8"),
    "s8s8": dict(activation="QInt8"),
    "s8s8 per tensor": dict(activation="QInt8", per_channel=False),
    "u8u8": dict(activation="QUInt8", weight="QUInt8", per_channel=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_onnxruntime_quantized_runs_in_integers_only(kind: str) -> None:
    model = by_onnxruntime(models.conv_net(), **KINDS[kind])
    mod = import_model(model)
    assert len(imported_layers(mod)) == 3
    assert why_float(mod) == {}
    integer = integerize(mod)
    assert floats_between(integer) == []
    assert floats_between(mod)  # the scan does find them
    reference, result = outputs(model, integer)
    step = np.ptp(reference) / 200
    assert np.abs(result - reference).max() <= 2 * step


@pytest.mark.parametrize(
    "build", [models.residual_net, models.mobile_net, models.pool_net, models.concat_net]
)
def test_residuals_poolings_and_concatenations_stay_between_their_own_grids(build: Any) -> None:
    model = by_onnxruntime(build(), "QInt8")
    mod = import_model(model)
    assert why_float(mod) == {}
    integer = integerize(mod)
    assert floats_between(integer) == []
    for each in (as_float(mod), integer):
        reference, result = outputs(model, each)
        assert np.abs(result - reference).max() <= 0.02 * np.abs(reference).max()


def test_what_nncf_writes_runs_in_integers_only() -> None:
    model = nncf_style()
    mod = import_model(model)
    assert imported_layers(mod) == ["stem.weight", "depthwise.weight", "project.weight", "fc.weight"]
    assert why_float(mod) == {}
    integer = integerize(mod)
    assert floats_between(integer) == []
    reference, result = outputs(model, integer)
    assert np.abs(result - reference).max() <= 0.02 * np.abs(reference).max()
    exact, simulated = outputs(model, as_float(mod))
    assert np.abs(exact - simulated).max() <= 0.02 * np.abs(reference).max()


def test_codes_come_through_batch_norms_and_transposition() -> None:
    model = nncf_style()
    codes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    stored = weights_of(import_model(model))
    # The batch norm turns the sign of some channels.
    stem, came = stored["stem.weight"], codes["q_output_stem.weight_1"]
    turned = codes["bn.weight"] < 0
    assert turned.any()
    np.testing.assert_array_equal(stem, np.where(turned.reshape(-1, 1, 1, 1), -came, came))
    np.testing.assert_array_equal(stored["fc.weight"], codes["q_output_fc.weight_1"].T)
    assert stored["fc.weight"].dtype == np.int8


def test_float_weights_between_quantize_and_dequantize_become_codes() -> None:
    net = Qdq((1, 4))
    weight = net.constant("fc.weight", net.random.normal(0, 1, (4, 3)).astype("f4"))
    net.op(
        "MatMul", net.grid("x", 0.03, 128), net.grid(weight, np.full(3, 0.02), 0, "int8", axis=1), name="y"
    )
    model = net.finish("y", rank=2)
    mod = import_model(model)
    assert imported_layers(mod) == ["fc.weight"]
    reference, result = outputs(model, integerize(mod))
    np.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-6)


def conv(net: Qdq, x: str, weight: str, **attributes: Any) -> str:
    return net.op("Conv", x, weight, name="conv", kernel_shape=[1, 1], **attributes)


def test_weights_with_another_zero_point_stay_float_with_a_reason() -> None:
    net = Qdq((1, 4, 5, 5))
    weight = net.weight("conv.weight", (6, 4, 1, 1), zero_point=77, dtype="uint8")
    conv(net, net.grid("x", 0.03, 128), weight)
    check_falls_back(net.finish(net.grid("conv", 0.05, 128)), "its weight is not on int8 grids")


def test_scales_per_channel_before_a_dense_convolution_stay_float_with_a_reason() -> None:
    net = Qdq((1, 4, 5, 5))
    x = net.grid("x", [0.02, 0.03, 0.04, 0.05], 128, axis=1)
    conv(net, x, net.weight("conv.weight", (6, 4, 1, 1)))
    check_falls_back(net.finish(net.grid("conv", 0.05, 128)), "a scale per channel")


def test_activations_of_16_bits_stay_float_with_a_reason() -> None:
    net = Qdq((1, 4, 5, 5), opset=21)
    conv(net, net.grid("x", 2e-4, 30000, "uint16"), net.weight("conv.weight", (6, 4, 1, 1)))
    check_falls_back(net.finish(net.grid("conv", 0.05, 128)), "quantized to uint16")


def test_a_layer_whose_input_is_not_quantized_stays_float_with_a_reason() -> None:
    net = Qdq((1, 4, 5, 5))
    conv(net, "x", net.weight("conv.weight", (6, 4, 1, 1)))
    check_falls_back(net.finish(net.grid("conv", 0.05, 128)), "its input is not quantized")


def check_falls_back(model: onnx.ModelProto, reason: str) -> None:
    mod = import_model(model)
    assert imported_layers(mod) == []
    assert list(why_float(mod)) == ["conv.weight"]
    assert reason in why_float(mod)["conv.weight"]
    reference, result = outputs(model, integerize(mod))
    assert np.abs(result - reference).max() <= 0.051  # one step


def test_codes_that_are_an_output_stay_as_they_came() -> None:
    net = Qdq((1, 4, 5, 5))
    real = conv(net, net.grid("x", 0.03, 0, "int8"), net.weight("conv.weight", (6, 4, 1, 1)))
    net.grid(real, 0.05, 3, "int8")
    model = net.finish("dq_output_conv_1")
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("q_output_conv_1", onnx.TensorProto.INT8, [1, 6, 5, 5])
    )
    mod = import_model(model)
    assert imported_layers(mod) == ["conv.weight"]
    reference, result = outputs(model, integerize(mod))
    assert result.dtype == np.int8
    assert np.abs(result.astype(int) - reference.astype(int)).max() <= 1


def test_the_form_is_canonical() -> None:
    mod = import_model(nncf_style())
    assert model_hash(canonical(mod)) == model_hash(mod)
