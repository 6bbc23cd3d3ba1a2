"""tersor tune: a plan with mappings for compress, measured within a budget; mistakes in words."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tersor.cli import main
from tersor.plan import Plan
from tersor.tuning.journal import RECORDS
from tests.models import conv_net, random_inputs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tune") / "net.onnx"
    onnx.save(conv_net(), path)
    return path


def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tersor", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as exited:
        main()
    captured = capfd.readouterr()
    return int(exited.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("scheme", ["int8", "fp32"])
def test_a_plan_is_written_and_no_data_is_needed(
    model: Path,
    scheme: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "tuned"
    arguments = ("tune", model, "--out", out, "--scheme", scheme, "--budget", "2s", "--cores", 1)
    code, printed, error = call(monkeypatch, capfd, *arguments)
    assert (code, error) == (0, "")
    assert f"written to {out / 'plan.json'}" in printed
    plan = Plan.load(out / "plan.json")
    assert plan.statistics is None
    assert {str(layer.scheme) for layer in plan.layers.values()} == {scheme}
    assert len((out / RECORDS).read_text().splitlines()) >= 1


def test_a_killed_run_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    arguments = "tune", str(model), "--out", str(out), "--cores", "1", "--budget"
    command = [sys.executable, "-m", "tersor", *arguments, "1h"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not _records(out) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = _records(out)
    assert before
    assert call(monkeypatch, capfd, *arguments, "1s")[0] == 0
    assert _records(out)[: len(before)] == before
    assert Plan.load(out / "plan.json").layers


def test_the_plan_is_one_that_compress_carries_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, **random_inputs(conv_net(), 0))
    arguments = "tune", model, "--data", data, "--out", tmp_path / "tuned", "--budget", "1s"
    assert call(monkeypatch, capfd, *arguments)[0] == 0
    plan = tmp_path / "tuned" / "plan.json"
    assert Plan.load(plan).statistics is not None
    out = tmp_path / "compressed"
    assert call(monkeypatch, capfd, "compress", model, "--data", data, "--plan", plan, "--out", out)[0] == 0
    assert (out / "plan.json").read_bytes() == plan.read_bytes()


def _records(out: Path) -> list[str]:
    path = out / RECORDS
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "soon"), "--budget: write a number with its unit, as in '90 s', got 'soon'"),
        (("--budget", "3 days"), "--budget: unknown unit 'days'"),
        (("--scheme", "tiny"), "--scheme: "),
        (("--isa", "z80"), "unknown instruction set 'z80'"),
        (("--plan", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    model: Path,
    options: tuple[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = "tune", model, "--out", tmp_path / "out", "--budget", "1s", *options
    code, printed, error = call(monkeypatch, capfd, *arguments)
    assert (code, printed) == (2, "")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_directory_of_other_things_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / RECORDS).write_text(json.dumps({"mine": 1}) + "\n")
    code, _, error = call(monkeypatch, capfd, "tune", model, "--out", tmp_path)
    assert code == 2
    assert "holds no measurements of `tersor tune`: remove" in error
