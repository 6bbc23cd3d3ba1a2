"""The command line: what it writes and prints, and how every mistake ends in one sentence."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tersor.cli import main
from tersor.plan import Plan
from tersor.replace import UNFINISHED
from tersor.targets.cpu.host import detect
from tersor.targets.cpu.host.guard import refusal
from tests.models import conv_net, mlp

ROOT = Path(__file__).parents[1]
EDGE = str(ROOT / "targets" / "machines" / "edge.toml")
FILES = {"model.so", "plan.json", "report.json", "report.txt", "statistics.npz"}


@dataclass
class Result:
    code: int
    out: str
    err: str


Tersor = Callable[..., Result]


@pytest.fixture
def tersor(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tersor:
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["tersor", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capfd.readouterr()
        return Result(exited.value.code or 0, captured.out, captured.err)  # pyright: ignore[reportArgumentType]

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, data for it, and its compressed form in `out`."""
    path = tmp_path_factory.mktemp("cli")
    onnx.save(mlp(), path / "mlp.onnx")
    random = np.random.default_rng(0)
    np.savez(
        path / "data.npz", x=random.normal(size=(12, 64)).astype("f4"), labels=random.integers(0, 10, 12)
    )
    command = [sys.executable, "-m", "tersor", "compress", "mlp.onnx", "--data", "data.npz", "--out", "out"]
    result = subprocess.run(
        [*command, "--calibration-samples", "8", "--no-race"],
        cwd=path,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (path / "printed.txt").write_text(result.stdout)
    return path


def _environment(**others: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **others}


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


def test_map_shows_what_the_layers_take_on_a_machine(folder: Path, tersor: Tersor) -> None:
    path = folder / "map.json"
    result = tersor("map", folder / "mlp.onnx", "--hardware", EDGE, "--json", path, "--trees")
    assert (result.code, result.err) == (0, "")
    assert "fc0.weight" in result.out
    assert "dram: weight, input, output" in result.out
    content = json.loads(path.read_text())
    assert content["refused"] == {}
    assert content["cycles"] == sum(layer["cycles"] for layer in content["layers"])
    for layer in content["layers"]:
        assert 0 < layer["utilisation"] <= 1
        assert sum(layer["energy_by"].values()) == pytest.approx(layer["energy"])


def test_map_shows_the_factors_of_a_layer_below_it_and_what_it_leaves_out(
    folder: Path, tersor: Tersor
) -> None:
    result = tersor("map", folder / "mlp.onnx", "--hardware", EDGE, "--scheme", "int8+rank16")
    first = [line.split()[1] for line in result.out.splitlines() if line.startswith("│")]
    assert first == ["fc0.weight", ".0", ".1", "fc1.weight", ".0", ".1", "fc2.weight", "total"]
    assert "mapped as int8: no rank16, as the rank 16 is above 10" in result.out


def test_map_takes_the_schemes_of_a_plan_and_the_zeros_beside_it(folder: Path, tersor: Tersor) -> None:
    result = tersor("map", folder / "mlp.onnx", "--hardware", EDGE, "--plan", folder / "out" / "plan.json")
    assert (result.code, result.err) == (0, "")
    assert "mlp, its plan on edge" in result.out
    assert "zeros of activations are as" in result.out


def test_map_counts_what_lies_outside_of_layers(tmp_path: Path, tersor: Tersor) -> None:
    onnx.save(conv_net(), tmp_path / "net.onnx")
    result = tersor("map", tmp_path / "net.onnx", "--hardware", EDGE)
    assert "operators outside of layers, which are no loops of products (1 " in " ".join(result.out.split())


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


def truncated(path: Path) -> dict[str, Any]:
    whole = (path / "mlp.onnx").read_bytes()
    (path / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    return {"model": path / "truncated.onnx"}


def not_a_model(path: Path) -> dict[str, Any]:
    (path / "notes.onnx").write_text("not a model")
    return {"model": path / "notes.onnx"}


def unsupported_operator(path: Path) -> dict[str, Any]:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    node = helper.make_node("Warp", ["x"], ["y"], domain="com.example")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets), path / "warp.onnx"
    )
    return {"model": path / "warp.onnx"}


def other_shape(path: Path) -> dict[str, Any]:
    np.savez(path / "other.npz", x=np.zeros((4, 63), "f4"))
    return {"--data": path / "other.npz"}


def empty(path: Path) -> dict[str, Any]:
    np.savez(path / "empty.npz", x=np.zeros((0, 64), "f4"))
    return {"--data": path / "empty.npz"}


def not_a_number(path: Path) -> dict[str, Any]:
    np.savez(path / "nan.npz", x=np.full((4, 64), np.nan, "f4"))
    return {"--data": path / "nan.npz"}


def plan_of_another_model(path: Path) -> dict[str, Any]:
    plan = Plan.load(path / "out" / "plan.json")
    Plan("0" * 64, plan.hardware, plan.layers).save(path / "foreign.json")
    return {"--plan": path / "foreign.json"}


def no_plan(path: Path) -> dict[str, Any]:
    (path / "no-plan.json").write_text("{")
    return {"--plan": path / "no-plan.json"}


def a_file_in_the_way(path: Path) -> dict[str, Any]:
    (path / "file").write_text("")
    return {"--out": path / "file"}


def a_rule_for_no_layer(path: Path) -> dict[str, Any]:
    (path / "rules.json").write_text('{"rules": [{"layers": "layer9.*", "scheme": "int8"}]}')
    return {"--rules": path / "rules.json"}


MISTAKES: list[tuple[Callable[[Path], dict[str, Any]] | dict[str, Any], str]] = [
    (truncated, "is not an ONNX model, or it is truncated"),
    (not_a_model, "is not an ONNX model"),
    (unsupported_operator, "Warp"),
    ({"model": "missing.onnx"}, "there is no model file"),
    (other_shape, "has the shape [4, 63]"),
    (empty, "holds no samples"),
    (not_a_number, "holds NaN"),
    ({"--data": "missing.npz"}, "there is no data"),
    ({"--eval": "missing.npz"}, "there is no data"),
    ({"--labels": "missing.csv"}, "--labels is for images"),
    ({"--shape": "x"}, "write NAME=1x32"),
    ({"--shape": "x=2x64"}, "contradicts"),
    ({"--shape": "z=1x64"}, "no input 'z'"),
    ({"--output": "nothing"}, "no tensor 'nothing'"),
    ({"--scheme": "int8+foo"}, "is no sparsity"),
    ({"--scheme": "int99"}, "2 to 16 bits"),
    ({"--min-snr": "20"}, "--scheme auto"),
    ({"--smooth": "1.5"}, "--smooth is a share from 0 to 1"),
    ({"--calibration": "magic"}, "--calibration"),
    ({"--calibration-samples": "0"}, "--calibration-samples"),
    ({"--isa": "z80"}, "unknown instruction set 'z80'"),
    ({"--mean": "grey"}, "--mean 'grey'"),
    ({"--std": "0"}, "--std"),
    (plan_of_another_model, "another model"),
    (no_plan, "is not JSON"),
    (a_rule_for_no_layer, "the rule for layer9.* matches no layer"),
    ({"--rules": "missing.json"}, "cannot read missing.json"),
    ({"--preset": "tiny"}, "there is no preset 'tiny'"),
    ({"--preset": "int8", "--scheme": "int8"}, "--preset says all that --scheme would"),
    (a_file_in_the_way, "it is a file"),
    ({"--out": "/dev/null/out"}, "cannot write"),
    ({"--colour": "red"}, "--colour"),
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_a_mistake_ends_in_one_sentence_and_leaves_nothing(
    mistake: Callable[[Path], dict[str, Any]] | dict[str, Any], said: str, folder: Path, tersor: Tersor
) -> None:
    before = {"model": folder / "mlp.onnx", "--data": folder / "data.npz", "--out": folder / "not" / "made"}
    changed = mistake(folder) if callable(mistake) else mistake
    model, *options = {**before, **changed}.items()
    result = tersor("compress", model[1], *(part for option in options for part in option))
    assert result.code == 2
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (folder / "not").exists()
    assert not list(folder.glob(f"{UNFINISHED}*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "missing", "--data", "data.npz"), "holds no report.json"),
        (("run", "out", "--data", "missing.npz"), "there is no data"),
        (("run", "out", "--data", "data.npz", "--out", "missing/x.npz"), "does not exist"),
        (("bench", "missing"), "holds no report.json"),
        (("bench", "broken"), "is no compiled model"),
        (("bench", "out", "--threads", "0"), "--threads"),
        (("inspect", "missing.onnx"), "there is no model file"),
        (("inspect", "mlp.onnx", "--compare", "missing", "--data", "data.npz"), "holds no report.json"),
        (("inspect", "mlp.onnx", "--compare", "out"), "give samples by --data"),
        (("inspect", "mlp.onnx", "--data", "data.npz"), "name by --compare"),
        (("inspect", "out", "--compare", "out", "--data", "data.npz"), "is a directory"),
        (("sensitivity", "mlp.onnx", "--data", "data.npz", "--schemes", "magic"), "--schemes: 'magic'"),
        (("sensitivity", "mlp.onnx", "--data", "missing.npz"), "there is no data"),
        (("map", "mlp.onnx", "--hardware", "missing.toml"), "missing.toml"),
        (("map", "missing.onnx", "--hardware", EDGE), "there is no model file"),
        (("map", "out", "--hardware", EDGE), "is a directory"),
        (("map", "mlp.onnx", "--hardware", "out"), "cannot read out"),
        (("map", "mlp.onnx", "--hardware", EDGE, "--json", "missing/map.json"), "missing does not exist"),
        (("map", "mlp.onnx", "--hardware", EDGE, "--json", "out"), "it is a directory"),
        (("map", "mlp.onnx", "--hardware", EDGE, "--plan", "missing.json"), "cannot read missing.json"),
        (
            ("map", "mlp.onnx", "--hardware", EDGE, "--plan", "out/plan.json", "--scheme", "int8"),
            "leave out --scheme",
        ),
        (("map", "mlp.onnx", "--hardware", EDGE, "--picture", "map.pdf"), "ends in .png or .svg"),
        (("map", "mlp.onnx", "--hardware", EDGE, "--scheme", "magic"), "--scheme: 'magic'"),
        (
            ("map", "mlp.onnx", "--hardware", EDGE, "--scheme", "w16a16"),
            "edge runs no layer of mlp.onnx: edge",
        ),
        (("map", "mlp.onnx", "--hardware", EDGE, "--scheme", "int8+channels50"), "give a plan"),
        (("pack", "missing", "mlp.onnx", "-o", "x.tersor"), "holds no report.json"),
        (("pack", "out", "mlp.onnx", "-o", "missing/x.tersor"), "does not exist"),
        (("unpack", "mlp.onnx", "--out", "not"), "mlp.onnx is no container"),
        (("compress",), "Missing argument"),
        (("melt",), "melt"),
    ],
)
def test_the_other_commands_say_what_to_change(
    arguments: tuple[str, ...], said: str, folder: Path, tersor: Tersor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / "report.json").write_bytes((folder / "out" / "report.json").read_bytes())
    (folder / "broken" / "model.so").write_text("no library")
    result = tersor(*arguments)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_library_for_another_cpu_is_refused_in_one_sentence(
    command: str, folder: Path, tersor: Tersor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "cpu_flags", lambda: frozenset({"fpu"}))
    monkeypatch.chdir(folder)
    report = json.loads((folder / "out" / "report.json").read_text())
    (folder / "elsewhere").mkdir(exist_ok=True)
    (folder / "elsewhere" / "report.json").write_text(json.dumps({**report, "hardware": "cpu-amx"}))
    arguments = ("--data", "data.npz") if command == "run" else ("mlp.onnx",)
    result = tersor(command, "elsewhere", *arguments)
    assert result.code == 2
    assert result.err == f"error: {refusal('amx')}\n"


def test_a_network_that_does_not_fit_into_memory_is_said_in_words(
    folder: Path, tersor: Tersor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 11.6 TiB")

    monkeypatch.setattr("tersor.cli.compress.load_model", load)
    result = tersor("compress", folder / "mlp.onnx", "--data", folder / "data.npz", "--out", folder / "not")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: out of memory, give a smaller shape, batch or data: Unable")


def test_a_full_disk_leaves_what_was_there(
    folder: Path, tersor: Tersor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(_executable: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tersor.compiler.export_library", export)
    (tmp_path / "model.so").write_text("old")
    result = tersor("compress", folder / "mlp.onnx", "--data", folder / "data.npz", "--out", tmp_path)
    assert (result.code, result.err) == (2, f"error: cannot write to {tmp_path}: no space left on device\n")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.so", "old")]


def test_an_interrupted_command_exits_with_130_and_leaves_nothing(
    folder: Path, tersor: Tersor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tersor.compiler.export_library", interrupt)
    result = tersor("compress", folder / "mlp.onnx", "--data", folder / "data.npz", "--out", tmp_path / "out")
    assert result.code == 130
    assert not list(tmp_path.iterdir())
