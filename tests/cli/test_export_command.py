from pathlib import Path

import numpy as np
import onnx
import pytest

from tersor.cli.app import _invoke
from tersor.frontend.verification import random_inputs, run_reference
from tests.models import mlp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, another one, data, and what `tersor compress` makes of them."""
    folder = tmp_path_factory.mktemp("export")
    onnx.save(mlp(), folder / "mlp.onnx")
    onnx.save(mlp(seed=1), folder / "other.onnx")
    np.savez(folder / "data.npz", x=np.concatenate([random_inputs(mlp(), i)["x"] for i in range(4)]))
    arguments = ["--data", f"{folder}/data.npz", "--out", f"{folder}/out", "--scheme", "int8+2:4"]
    assert _invoke(["compress", f"{folder}/mlp.onnx", *arguments]) == 0
    return folder


def test_a_compressed_model_is_written_for_other_tools(folder: Path) -> None:
    target = folder / "int8.onnx"
    assert _invoke(["export", f"{folder}/out", f"{folder}/mlp.onnx", "--onnx", str(target)]) == 0
    outputs = folder / "outputs.npz"
    assert _invoke(["run", f"{folder}/out", "--data", f"{folder}/data.npz", "--out", str(outputs)]) == 0
    ours = np.load(outputs)["y"]
    exported = onnx.load(target)
    for i, row in enumerate(ours):
        theirs = run_reference(exported, random_inputs(mlp(), i), ["y"])["y"][0]
        assert np.abs(theirs - row).max() <= 1e-5 * np.abs(row).max()
    # Weights of two in four are stored densely, for tools that know no other form.
    codes = {t.name: onnx.numpy_helper.to_array(t) for t in exported.graph.initializer}["fc1.weight"]
    assert codes.shape == (128, 96)
    assert (codes.reshape(32, 4, 96) != 0).sum(axis=1).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["other.onnx", "--onnx", "y.onnx"], "the plan was made for another model"),
        (["mlp.onnx", "--onnx", "missing/y.onnx"], "does not exist"),
        (["none.onnx", "--onnx", "y.onnx"], "there is no model file"),
    ],
)
def test_mistakes_end_in_a_sentence(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert _invoke(["export", "out", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "y.onnx").exists()
