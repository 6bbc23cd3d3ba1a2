"""The tutorials run, and print what their text says that they do."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tersor.autoscheduler.report import SearchReport
from tersor.plan import Plan
from tersor.targets.cpu.host.detect import detect

TUTORIALS = Path(__file__).parents[1] / "tutorials"
LAYERS = ["first", "second", "third", "scores"]

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(TUTORIALS)

    def loaded(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, TUTORIALS / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return loaded


def numbers(line: str) -> list[float]:
    return [float(each) for each in re.findall(r"\d+(?:\.\d+)?", line.replace(",", ""))]


def test_the_pictures_are_told_apart(load: Load) -> None:
    task = load("pictures")
    weights = {each.name: each for each in task.network().graph.initializer}
    seen, kinds = task.pictures(200, seed=5)
    for name, stride in task.STRIDES.items():
        seen = task.convolved(seen, task.numpy_helper.to_array(weights[name]), stride)
    scores = seen.reshape(len(seen), -1) @ task.numpy_helper.to_array(weights["scores"])
    scores += task.numpy_helper.to_array(weights["bias"])
    assert (scores.argmax(axis=1) == kinds).mean() > 0.8
    again, _ = task.pictures(200, seed=5)
    assert np.array_equal(again, task.pictures(200, seed=5)[0])


def test_compress_a_model(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("compress_a_model").main(tmp_path / "pictures")
    eight, four = capsys.readouterr().out.split("w4a8:\n")
    for text, scheme in ((eight.removeprefix("int8:\n"), "int8"), (four, "w4a8")):
        layers = text.splitlines()[:4]
        assert [line.split()[0] for line in layers] == LAYERS
        assert all(f" {scheme}, " in line for line in layers)
    ((int8, fp32), (w4a8, _)) = (
        numbers(next(line for line in text.splitlines() if "constants" in line)) for text in (eight, four)
    )
    # Vectors of 16 lanes are filled up with more zeros where there are few channels.
    assert int8 < (0.3 if detect().isa.lanes <= 8 else 0.35) * fp32
    assert w4a8 < 0.6 * int8
    kept, before = numbers(next(line for line in eight.splitlines() if "accuracy" in line))
    assert abs(kept - before) <= 3
    assert Plan.load(tmp_path / "pictures" / "plan.json").recipe.rounding == "gptq"


def test_tune_for_this_cpu(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tutorial = load("tune_for_this_cpu")
    monkeypatch.setattr(tutorial, "BUDGET", 1.0)
    tutorial.main(tmp_path / "tuned")
    *kernels, same, _ = capsys.readouterr().out.splitlines()
    assert {name for line in kernels for name in line.split(":")[0].strip().split(", ")} == set(LAYERS)
    assert same == "the tuned network gives the same bits"
    assert set(Plan.load(tmp_path / "tuned" / "plan.json").layers) == set(LAYERS)


def test_choose_together(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("choose_together").main(tmp_path / "together")
    report = SearchReport.load(tmp_path / "together" / "search.json")
    printed = capsys.readouterr().out
    assert printed.startswith(f"{report.chosen}: ")
    assert "the contract is kept\n" in printed
    assert report.kept
    assert report.has_labels
    assert all(re.search(rf"^  {name} +\S+, [12] mapping", printed, re.MULTILINE) for name in LAYERS)
    assert "12 plans from " in printed
    expected, lost = numbers(next(line for line in printed.splitlines() if "expected" in line).split(":")[1])
    assert max(expected, lost) <= 20
    assert "front-12" in (tmp_path / "together" / "report.html").read_text()
