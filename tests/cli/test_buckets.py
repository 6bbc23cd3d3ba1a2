"""Buckets on the command line: compress, run, bench and the runtime alone choose the shape that fits."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tersor.cli.app import _invoke
from tests.cli.commands import ROOT, Tersor
from tests.models import masked_attention, mlp

SHAPES = "--shape", "x=1x8x16,1x24x16", "--shape", "mask=1x8,1x24"


def sentences(length: int, count: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(length).normal(size=(count, length, 16)).astype("f4")
    return {"x": x, "mask": np.ones((count, length), np.int64)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of sequences, sentences of several lengths, and its compressed form in `out`."""
    path = tmp_path_factory.mktemp("buckets")
    onnx.save(masked_attention(), path / "net.onnx")
    (path / "data").mkdir()
    for length in (5, 8, 19, 24):
        np.savez(path / "data" / f"{length:02}.npz", **sentences(length, 3))
    command = ["compress", f"{path}/net.onnx", "--data", f"{path}/data", "--out", f"{path}/out"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert _invoke([*command, *SHAPES, "--calibration-samples", "7", "--no-race"]) == 0
    (path / "printed.txt").write_text(printed.getvalue())
    return path


def test_a_folder_of_different_lengths_calibrates_and_evaluates(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    assert "calibrated on 7 samples, evaluated on the 5 others" in printed
    assert "x takes [1, up to 24, 16]" in printed
    shapes = json.loads((folder / "out" / "report.json").read_text())["buckets"]["shapes"]
    assert [(shape["entry"], shape["inputs"][1]["shape"]) for shape in shapes] == [
        ("main_8", [1, 8]),
        ("main", [1, 24]),
    ]


def test_run_and_the_runtime_alone_give_the_same(folder: Path, tersor: Tersor) -> None:
    result = tersor("run", folder / "out", "--data", folder / "data", "--out", folder / "outputs.npz")
    assert (result.code, result.err) == (0, "")
    outputs = np.load(folder / "outputs.npz")
    assert [outputs[f"y.{i}"].shape[1] for i in range(12)] == [5, 5, 5, 8, 8, 8, 19, 19, 19, 24, 24, 24]
    for name, array in sentences(5, 3).items():
        np.save(folder / f"{name}.npy", array[:1])
    example = ROOT / "tutorials" / "run_compiled.py"
    command = [sys.executable, str(example), "out/model.so", "x.npy", "mask.npy", "y.npy"]
    subprocess.run(command, cwd=folder, check=True)
    np.testing.assert_array_equal(np.load(folder / "y.npy"), outputs["y.0"])


def test_bench_times_every_bucket(folder: Path, tersor: Tersor) -> None:
    result = tersor("bench", folder / "out", folder / "net.onnx", "--repeats", 2)
    assert (result.code, result.err) == (0, "")
    for row in ("fp32 1x8x16, 1x8", "compressed 1x8x16, 1x8", "fp32 1x24x16, 1x24"):
        assert row in result.out


def test_the_last_batch_may_be_smaller(tmp_path: Path, tersor: Tersor) -> None:
    onnx.save(mlp(1), tmp_path / "mlp.onnx")
    x = np.random.default_rng(0).normal(size=(11, 64)).astype("f4")
    np.savez(tmp_path / "data.npz", x=x, labels=np.zeros(11, int))
    arguments = "--data", tmp_path / "data.npz", "--out", tmp_path / "out", "--calibration-samples", 3
    result = tersor("compress", tmp_path / "mlp.onnx", *arguments, "--batch", "4", "--no-race")
    assert (result.code, result.err) == (0, "")
    assert "calibrated on 3 samples, evaluated on the 8 others" in result.out
    result = tersor("run", tmp_path / "out", "--data", tmp_path / "data.npz")
    assert result.out.splitlines()[0] == "y: float32 [11, 10]"
    # The other commands find the batch in the folder.
    arguments = "--compare", tmp_path / "out", "--data", tmp_path / "data.npz", "--samples", 3
    result = tersor("inspect", tmp_path / "mlp.onnx", *arguments)
    assert (result.code, result.err) == (0, "")
    assert "fc1.weight:out" in result.out
    result = tersor("export", tmp_path / "out", tmp_path / "mlp.onnx", "--onnx", tmp_path / "int8.onnx")
    assert (result.code, result.err) == (0, "")
    (value,) = onnx.load(tmp_path / "int8.onnx").graph.input
    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [4, 64]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--shape", "x=1x8x16,1x24x16", "--shape", "mask=1x8,1x24,1x32"), "'x' has 2, 'mask' has 3"),
        ((*SHAPES[:2], "--shape", "mask=1x8;1x24"), "write NAME=1x32, or NAME=1x32,1x128"),
        ((*SHAPES, "--batch", "big"), "write 8, or 1,4,16"),
        (("--shape", "x=1x4x16,1x8x16", "--shape", "mask=1x4,1x8"), "needs [samples, up to 8, 16]"),
    ],
)
def test_a_mistake_is_one_sentence(
    options: tuple[str, ...],
    said: str,
    folder: Path,
    tersor: Tersor,
) -> None:
    arguments = "--data", folder / "data", "--out", folder / "not"
    result = tersor("compress", folder / "net.onnx", *arguments, *options)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert said in line


def test_a_batch_that_cannot_be_padded_needs_enough_samples(tmp_path: Path, tersor: Tersor) -> None:
    onnx.save(mlp(8), tmp_path / "mlp.onnx")
    np.save(tmp_path / "x.npy", np.zeros((20, 64), np.float32))
    arguments = "--data", tmp_path / "x.npy", "--out", tmp_path / "out", "--calibration-samples", 4
    result = tersor("compress", tmp_path / "mlp.onnx", *arguments)
    assert result.code == 2
    assert "the model takes 8 samples at once, but only 4 may be used" in result.err
