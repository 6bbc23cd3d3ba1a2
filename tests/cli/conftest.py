"""A `tersor` to call, and a folder with a model, its data and its compressed form."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tersor.cli import main
from tests.cli.commands import Result, Tersor, environment
from tests.models import mlp


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
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (path / "printed.txt").write_text(result.stdout)
    return path
