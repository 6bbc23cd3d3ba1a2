"""tersor.compile: calibrate, plan, compress, compare and save from Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

import tersor
from tersor.compiler import Model
from tersor.statistics import Statistics
from tests.models import conv_net, mlp, random_inputs

FLOAT_ERROR = 1e-4  # of the largest output


def samples(count: int = 4) -> list[dict[str, Any]]:
    return [random_inputs(mlp(), seed) for seed in range(count)]


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(mlp())


@pytest.fixture(scope="module")
def compiled(model: Model) -> tersor.Compiled:
    return tersor.compile(model, samples(), measure=False)


def test_a_model_knows_its_inputs_and_outputs_by_name(model: Model) -> None:
    assert model.inputs == {"x": ((1, 64), "float32")}
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("y", (1, 10))]


@pytest.mark.parametrize("build", [mlp, conv_net])
def test_int8_stays_near_fp32(build: Any) -> None:
    source = build()
    model = tersor.load_model(source)
    data = [random_inputs(source, seed) for seed in range(8)]
    totals = tersor.compile(model, data, "int8", measure=False).report.totals
    assert totals.snr_db is not None
    assert totals.snr_db >= 25
    assert totals.samples == 8


def test_fp32_is_exact(model: Model) -> None:
    compiled = tersor.compile(model, samples(), "fp32", measure=False)
    for sample in samples():
        reference, result = model.float_runner(sample)[0], compiled(sample)[0]
        assert np.abs(result - reference).max() <= FLOAT_ERROR * np.abs(reference).max()
    assert compiled.report.totals.bytes < 1.05 * compiled.report.totals.bytes_fp32  # rows padded to vectors


def test_every_layer_is_reported(compiled: tersor.Compiled) -> None:
    layers = compiled.report.layers
    assert [layer.name for layer in layers] == ["fc0.weight", "fc1.weight", "fc2.weight"]
    assert {layer.scheme for layer in layers} == {"int8"}
    assert all(layer.snr_db is not None and layer.snr_db > 25 for layer in layers)
    assert sum(layer.bytes for layer in layers) <= compiled.report.totals.bytes


def test_data_that_can_be_read_only_once_calibrates_the_same(model: Model, compiled: tersor.Compiled) -> None:
    once = tersor.compile(model, iter(samples()), measure=False)
    assert once.statistics.digest() == compiled.statistics.digest()


def test_only_the_first_samples_calibrate(model: Model) -> None:
    """Also where they are more than those that the layers are compared on."""

    def digest(data: Any) -> str:
        return tersor.compile(model, data, calibration_samples=10, measure=False).statistics.digest()

    assert digest(iter(samples(12))) == digest(samples(10))


def test_progress_tells_every_step(model: Model) -> None:
    seen: dict[str, tuple[int, int | None]] = {}

    def progress(what: str, done: int, total: int | None) -> None:
        seen[what] = done, total

    tersor.compile(model, samples(), evaluation=samples(3), progress=progress, race=False)
    assert seen["calibrating"] == (4, 4)
    assert seen["evaluating"] == (3, 3)
    assert {"planning", "compiling", "comparing layers", "measuring"} <= seen.keys()


def test_labels_give_accuracies(model: Model) -> None:
    right = np.array([model.float_runner(sample)[0].argmax() for sample in samples()])
    totals = tersor.compile(model, samples(), labels=right, measure=False).report.totals
    assert totals.accuracy_fp32 == 1.0
    assert totals.accuracy == totals.agreement


def test_a_plan_written_to_a_file_is_replayed(
    model: Model, compiled: tersor.Compiled, tmp_path: Path
) -> None:
    compiled.save(tmp_path)
    plan = tersor.Plan.load(tmp_path / "plan.json")
    assert plan == compiled.plan
    again = tersor.compile(model, samples(), plan, measure=False)
    assert np.array_equal(again(samples()[0])[0], compiled(samples()[0])[0])
    assert Statistics.load(tmp_path / "statistics.npz").digest() == plan.statistics


def test_a_relax_module_is_compressed_too(compiled: tersor.Compiled) -> None:
    mod = tersor.import_model(mlp())
    assert isinstance(mod, tvm.IRModule)
    result = tersor.compile(mod, samples(), measure=False)
    assert np.array_equal(result(samples()[0])[0], compiled(samples()[0])[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": []}, "empty"),
        ({"data": [{"x": np.full((1, 64), np.nan, np.float32)}]}, "NaN"),
        ({"data": [{"x": np.zeros((1, 63), np.float32)}]}, "shape"),
        ({"data": [{"z": np.zeros((1, 64), np.float32)}]}, "'x' is missing"),
        ({"config": "int8+foo"}, "is no sparsity"),
        ({"calibration_samples": 0}, "at least 1 sample"),
        ({"labels": np.zeros(3, int)}, "fewer labels than samples"),
    ],
)
def test_a_mistake_is_said_in_words(model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(tersor.UserError, match=said):
        tersor.compile(model, **{"data": samples(), "measure": False, **options})
