"""The commands: what they write and print."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tersor.plan import Plan
from tests.cli.commands import ROOT, Tersor
from tests.models import conv_net, mlp

FILES = {"model.so", "plan.json", "report.json", "report.txt", "statistics.npz"}


def test_compress_writes_a_library_its_plan_and_its_report(folder: Path) -> None:
    assert {file.name for file in (folder / "out").iterdir()} == FILES
    report = json.loads((folder / "out" / "report.json").read_text())
    assert set(report) >= {"model", "hardware", "layers", "totals"}
    described = {"name", "scheme", "kernel", "mapping", "bytes", "kernel_bytes", "snr_db", "reason"}
    assert set(report["layers"][0]) == described
    totals = report["totals"]
    assert report["race"] == ""
    assert totals["bytes"] < 0.35 * totals["bytes_fp32"]
    assert totals["file_bytes"] == (folder / "out" / "model.so").stat().st_size
    for name in ("agreement", "snr_db", "latency_ms_fp32", "latency_ms", "accuracy_fp32", "accuracy"):
        assert isinstance(totals[name], float), name


def test_what_is_printed_is_the_report_and_what_it_was_made_of(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    tables = [line.rstrip() for line in printed.splitlines()]
    assert (folder / "out" / "report.txt").read_text().splitlines() == tables[:-2]
    assert "calibrated on 8 samples, evaluated on the 4 others" in printed


def test_a_plan_is_replayed_to_the_same_bytes_in_another_process(folder: Path, tersor: Tersor) -> None:
    """This process and that of the fixture have different hash seeds and temporary folders."""
    arguments = "--data", folder / "data.npz", "--calibration-samples", 8, "--out", folder / "again"
    assert (
        tersor("compress", folder / "mlp.onnx", "--plan", folder / "out" / "plan.json", *arguments).code == 0
    )
    for name in ("plan.json", "model.so", "statistics.npz"):
        assert (folder / "out" / name).read_bytes() == (folder / "again" / name).read_bytes(), name


def test_rules_name_layers_by_wildcards(folder: Path, tersor: Tersor) -> None:
    rules = {"rules": [{"layers": "fc1*", "scheme": "fp32"}], "scheme": "int8"}
    (folder / "wild.json").write_text(json.dumps(rules))
    arguments = "--rules", folder / "wild.json", "--data", folder / "data.npz", "--out", folder / "wild"
    result = tersor("compress", folder / "mlp.onnx", *arguments)
    assert (result.code, result.err) == (0, "")
    layers = Plan.load(folder / "wild" / "plan.json").layers
    assert {name: str(layer.scheme) for name, layer in layers.items()} == {
        "fc0.weight": "int8",
        "fc1.weight": "fp32",
        "fc2.weight": "int8",
    }


def test_the_algorithms_are_options_and_stand_in_the_plan(folder: Path, tersor: Tersor) -> None:
    options = ["--scheme", "w4a8", "--rounding", "gptq", "--equalize", "--smooth", "0.5", "--no-repair"]
    result = tersor(
        "compress", folder / "mlp.onnx", "--data", folder / "data.npz", *options, "--out", folder / "w4"
    )
    assert (result.code, result.err) == (0, "")
    plan = Plan.load(folder / "w4" / "plan.json")
    recipe = plan.recipe
    assert (recipe.rounding, recipe.equalize, recipe.smooth, recipe.repair) == ("gptq", True, 0.5, False)
    assert {str(layer.scheme) for layer in plan.layers.values()} == {"w4a8"}


def test_presets_are_listed(tersor: Tersor) -> None:
    result = tersor("presets")
    assert (result.code, result.err) == (0, "")
    assert "int8-dynamic" in result.out


def test_a_compressed_model_is_packed_and_built_again(folder: Path, tersor: Tersor) -> None:
    pytest.importorskip("constriction")
    result = tersor("pack", folder / "out", folder / "mlp.onnx", "-o", folder / "mlp.tersor")
    assert (result.code, result.err) == (0, "")
    assert "by their entropy" in result.out
    assert (folder / "mlp.tersor").stat().st_size < 30_000
    assert tersor("unpack", folder / "mlp.tersor", "--out", folder / "unpacked").code == 0
    for name in ("out", "unpacked"):
        tersor("run", folder / name, "--data", folder / "data.npz", "--out", folder / f"{name}.npz")
    before, after = (np.load(folder / f"{name}.npz")["y"] for name in ("out", "unpacked"))
    assert np.array_equal(before, after)


def test_sensitivity_measures_layers_one_at_a_time(folder: Path, tersor: Tersor) -> None:
    arguments = "--data", folder / "data.npz", "--schemes", "int8,w2a8", "--samples", 2
    result = tersor("sensitivity", folder / "mlp.onnx", *arguments, "--out", folder / "sensitivity")
    assert (result.code, result.err) == (0, "")
    assert "rank correlation (Spearman)" in result.out
    cells = json.loads((folder / "sensitivity" / "sensitivity.json").read_text())["cells"]
    assert [(cell["layer"], cell["scheme"]) for cell in cells[:2]] == [
        ("fc0.weight", "int8"),
        ("fc0.weight", "w2a8"),
    ]


def test_run_writes_the_outputs_by_name(folder: Path, tersor: Tersor) -> None:
    result = tersor("run", folder / "out", "--data", folder / "data.npz", "--out", folder / "outputs.npz")
    assert (result.code, result.err) == (0, "")
    outputs = np.load(folder / "outputs.npz")
    assert outputs["y"].shape == (12, 10)
    classes = ", ".join(map(str, outputs["y"].argmax(axis=1)))
    assert result.out.splitlines()[:2] == ["y: float32 [12, 10]", f"classes: {classes}"]


def test_a_library_runs_with_the_runtime_alone(folder: Path, tersor: Tersor) -> None:
    tersor("run", folder / "out", "--data", folder / "data.npz", "--out", folder / "all.npz")
    np.save(folder / "one.npy", np.load(folder / "data.npz")["x"][:1])
    example = ROOT / "tutorials" / "run_compiled.py"
    script = (
        "import runpy, sys\n"
        f"sys.argv = [{str(example)!r}, 'out/model.so', 'one.npy', 'result.npy']\n"
        f"runpy.run_path({str(example)!r})\n"
        "assert 'tersor' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    assert np.array_equal(np.load(folder / "result.npy"), np.load(folder / "all.npz")["y"][:1])


def test_bench_times_the_library_beside_its_float_build(folder: Path, tersor: Tersor) -> None:
    result = tersor("bench", folder / "out", folder / "mlp.onnx", "--repeats", 3)
    assert (result.code, result.err) == (0, "")
    assert "fp32" in result.out
    assert "faster" in result.out or "slower" in result.out


def test_inspect_shows_the_layers_of_a_model(folder: Path, tersor: Tersor) -> None:
    result = tersor("inspect", folder / "mlp.onnx")
    assert result.code == 0
    assert "fc0.weight" in result.out
    assert f"{64 * 128 + 128 * 96 + 96 * 10:,}" in result.out


def test_inspect_compares_a_compressed_model_with_its_model(folder: Path, tersor: Tersor) -> None:
    arguments = ("inspect", "--compare", folder / "out", folder / "mlp.onnx")
    printed = tersor(*arguments, "--data", folder / "data.npz", "--samples", 3).out
    rows = [line.split() for line in printed.splitlines()]
    assert [row[1] for row in rows if "%" in row][:2] == ["x", "fc0.weight:out"]
    assert "no layer stands out" in printed
    np.savez(folder / "small.npz", x=np.load(folder / "data.npz")["x"] / 100)
    assert "jumps at fc0.weight, likely cause range" in tersor(*arguments, "--data", folder / "small.npz").out


def test_inspect_shows_the_report_of_a_compressed_model(folder: Path, tersor: Tersor) -> None:
    printed = tersor("inspect", folder / "out").out.splitlines()
    assert [line.rstrip() for line in printed] == (folder / "out" / "report.txt").read_text().splitlines()


def test_images_are_labelled_by_their_names_and_evaluated_where_there_are_no_others(
    tmp_path: Path, tersor: Tersor
) -> None:
    onnx.save(conv_net(), tmp_path / "net.onnx")
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(3):
        pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}_{index + 3}.png")
    options = "--labels", "filename", "--resize", 18, "--crop", 16, "--mean", "127", "--std", "128,127,126"
    arguments = "--data", tmp_path / "photos", "--out", tmp_path / "out", "--no-race", *options
    result = tersor("compress", tmp_path / "net.onnx", *arguments)
    assert (result.code, result.err) == (0, "")
    assert "accuracy" in result.out
    assert "evaluated on the same 3: --data has no others" in result.out


def test_outputs_and_shapes_are_chosen(tmp_path: Path, tersor: Tersor) -> None:
    onnx.save(mlp("rows"), tmp_path / "mlp.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(8, 64)).astype("f4"))
    chosen = "--shape", "x=2x64", "--output", "relu1", "--output", "y", "--isa", "plain", "--cores", 1
    arguments = "--data", tmp_path / "x.npy", "--out", tmp_path / "out", *chosen
    assert tersor("compress", tmp_path / "mlp.onnx", *arguments).code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(spec["name"], spec["shape"]) for spec in report["buckets"]["shapes"][0]["outputs"]] == [
        ("relu1", [2, 96]),
        ("y", [2, 10]),
    ]
    assert report["hardware"] == "cpu-plain"
    result = tersor("run", tmp_path / "out", "--data", tmp_path / "x.npy")
    assert result.out.splitlines() == ["relu1: float32 [8, 96]", *result.out.splitlines()[1:]]
