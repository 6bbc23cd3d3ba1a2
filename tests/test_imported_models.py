"""Networks that came quantized, through the front doors: compile, plan, pipeline, command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax

import tersor
from tersor.cli.app import _invoke
from tersor.frontend.verification import random_inputs, run_reference
from tersor.plan import LayerPlan
from tersor.planning import AS_IMPORTED, plan_for
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.cpu.host.detect import detect
from tests.models import conv_net
from tests.quantized_models import Qdq, by_onnxruntime, nncf_style


@pytest.fixture(scope="module")
def model() -> tersor.Model:
    return tersor.load_model(nncf_style())


def samples(count: int = 4) -> list[dict[str, np.ndarray]]:
    return [random_inputs(nncf_style(), seed) for seed in range(count)]


def test_every_layer_has_its_own_integers_and_an_integer_kernel(model: tersor.Model) -> None:
    compiled = tersor.compile(model, samples(), measure=False)
    assert {(layer.scheme, layer.reason) for layer in compiled.plan.layers.values()} == {(INT8, AS_IMPORTED)}
    assert all("int8" in layer.kernel for layer in compiled.report.layers)
    assert compiled.statistics.tensors == {}
    for x in samples():
        expected = run_reference(nncf_style(), x, ["y"])["y"]
        assert np.abs(compiled(x)[0] - expected).max() <= 0.02 * np.abs(expected).max()


def test_the_pipeline_needs_no_statistics(model: tersor.Model) -> None:
    target = detect().target
    executable = tvm.compile(model.mod, target, relax_pipeline=tersor.pipeline("int8"))
    x = samples(1)[0]
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x["x"]))
    (expected,) = tersor.compile(model, samples(1), measure=False)(x)
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("scheme", ["auto", "fp32", "int8+2:4"])
def test_another_scheme_than_int8_is_refused(model: tersor.Model, scheme: str) -> None:
    with pytest.raises(tersor.UserError, match=f"came quantized.*instead of {scheme.replace('+', '.')}"):
        plan_for(scheme, model.mod, model.host, None)


def test_a_plan_may_run_layers_in_float_but_not_give_them_other_integers(model: tersor.Model) -> None:
    plan = plan_for("int8", model.mod, model.host, None)
    edited = replace(plan, layers={**plan.layers, "fc.weight": LayerPlan(FP32)})
    compiled = tersor.compile(model, samples(), edited, measure=False)
    assert [layer.kernel for layer in compiled.report.layers if "int8" not in layer.kernel]
    x = samples(1)[0]
    expected = run_reference(nncf_style(), x, ["y"])["y"]
    assert np.abs(compiled(x)[0] - expected).max() <= 0.02 * np.abs(expected).max()
    sparse = replace(plan, layers={**plan.layers, "fc.weight": LayerPlan(Scheme.parse("int8+2:4"))})
    with pytest.raises(tersor.UserError, match=r"gives 'fc.weight' the scheme int8\+2:4, but the model came"):
        plan_for(sparse, model.mod, model.host, None)


def test_a_layer_on_another_grid_runs_in_float_and_the_report_says_why() -> None:
    net = Qdq((1, 4, 5, 5))
    weight = net.weight("conv.weight", (6, 4, 1, 1), zero_point=77, dtype="uint8")
    net.op("Conv", net.grid("x", 0.03, 128), weight, name="conv", kernel_shape=[1, 1])
    source = net.finish(net.grid("conv", 0.05, 128))
    x = random_inputs(source)
    compiled = tersor.compile(source, [x], measure=False)
    (layer,) = compiled.report.layers
    assert layer.scheme == "fp32"
    assert "its weight is not on int8 grids" in layer.reason
    assert "its weight is not on int8 grids" in compiled.report.text(200)


def test_the_command_line_compresses_what_onnxruntime_quantized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = by_onnxruntime(conv_net(), "QInt8")
    onnx.save(source, tmp_path / "qdq.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([random_inputs(source, i)["x"] for i in range(4)]))
    arguments = ["compress", f"{tmp_path}/qdq.onnx", "--data", f"{tmp_path}/data.npz"]
    assert _invoke([*arguments, "--out", f"{tmp_path}/out"]) == 0
    assert "fc.weight is int8: as imported" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.so").exists()
    assert _invoke([*arguments, "--out", f"{tmp_path}/other", "--scheme", "fp32"]) == 2
    assert "the model came quantized" in capsys.readouterr().err
