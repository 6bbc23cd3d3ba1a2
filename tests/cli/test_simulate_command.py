"""`tersor simulate`: a tiny network on a machine, what it prints and writes, and mistakes in one sentence."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tersor.cli import main
from tersor.hardware import Hardware
from tersor.machine_run import MachineRun
from tersor.targets.accelerator.isa.assembly import assemble
from tests.models import mlp

MACHINES = Path(__file__).parents[2] / "targets" / "machines"
EDGE = MACHINES / "edge.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulate")
    onnx.save(mlp(), path / "mlp.onnx")
    np.savez(path / "data.npz", x=np.random.default_rng(0).normal(size=(3, 64)).astype("f4"))
    text = EDGE.read_text()
    (path / "cpu.toml").write_text(text[: text.index("[[axes]]")])
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tersor", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        main()
    return int(exited.value.code or 0)


def test_a_network_runs_on_the_machine_as_on_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    options = ("--hardware", EDGE, "--data", "data.npz", "--scheme", "w4a8", "--samples", 2)
    assert call(monkeypatch, "simulate", "mlp.onnx", *options, "--json", "run.json", "--listing") == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "edge makes 100.0 % of the network's products" in printed.out
    assert "the outputs equal those of the build for the CPU, bit for bit" in printed.out
    assert "mlp, w4a8 on edge, simulated on 2 samples" in printed.out

    run, machine = MachineRun.load(folder / "run.json"), Hardware.load(EDGE)
    assert (run.samples, run.share, run.exact) == (2, 1.0, True)
    assert [layer.name for layer in run.layers] == ["fc0.weight", "fc1.weight", "fc2.weight"]
    assert {each.name for each in run.on_cpu} == {"quantize.1"}
    for layer in run.layers:
        assert layer.predicted is not None
        assert layer.energy == pytest.approx(sum(layer.energy_by.values()))
        assert layer.energy_error == pytest.approx(0, abs=0.01)
        assert layer.cycles_error == pytest.approx(0, abs=0.05)
        assert 0 < layer.utilisation <= 1
        assert max(layer.at_work.values()) <= layer.cycles * (1 + 1e-9)
        assert layer.listing in printed.out
        assert assemble(layer.listing, machine).layer.name == layer.name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--hardware", "missing.toml"), "cannot read missing.toml"),
        (("--hardware", "cpu.toml"), "[datapath]"),
        (("--hardware", EDGE, "--data", "missing.npz"), "there is no data"),
        (("--hardware", EDGE, "--scheme", "magic"), "--scheme: 'magic'"),
        (("--hardware", EDGE, "--scheme", "int8", "--plan", "plan.json"), "leave one of them out"),
        (("--hardware", EDGE, "--plan", "plan.json"), "cannot read plan.json"),
        (("--hardware", EDGE, "--samples", "0"), "--samples"),
        (("--hardware", EDGE, "--json", "missing/run.json"), "missing does not exist"),
        (("--hardware", EDGE, "--picture", "run.pdf"), "ends in .png or .svg"),
        (("--hardware", EDGE, "--shape", "x=1x64,2x64"), "a model in one shape"),
        (("--hardware", EDGE, "--scheme", "fp32"), "edge runs no layer of mlp"),
    ],
)
def test_mistakes_end_in_one_sentence(
    options: tuple[object, ...],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    given = options if "--data" in options else (*options, "--data", "data.npz")
    assert call(monkeypatch, "simulate", "mlp.onnx", *given) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_without_numba_it_says_so_before_it_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert call(monkeypatch, "simulate", "missing.onnx", "--hardware", EDGE, "--data", "data.npz") == 2
    assert capfd.readouterr().err == "error: simulating needs numba: pip install 'tersor[simulate]'\n"
