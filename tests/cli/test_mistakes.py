"""Every mistake ends in one sentence, and leaves nothing behind."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tersor.plan import Plan
from tersor.replace import UNFINISHED
from tersor.targets.cpu.host import detect
from tersor.targets.cpu.host.guard import refusal
from tests.cli.commands import EDGE, Tersor


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
    def export(_executable: object, path: Path, _constants: int) -> None:
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
