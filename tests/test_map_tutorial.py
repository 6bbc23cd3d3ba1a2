import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tersor.network import Network

TUTORIAL = Path(__file__).parents[1] / "tutorials" / "map_a_machine.py"


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    spec = importlib.util.spec_from_file_location("map_a_machine", TUTORIAL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_says_what_bounds_each_layer_and_where_the_loops_of_the_slowest_are(
    tutorial: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = tutorial.SMALL["classes"]
    monkeypatch.setattr(tutorial, "SMALL", Network((dense,)))
    tutorial.main()
    eight, classes, four, _, *tree = capsys.readouterr().out.splitlines()
    assert (eight[:5], four[:5]) == ("int8:", "int4:")
    assert "bound by dram, most energy in dram" in classes
    assert tree[:2] == ["classes in int8:", "dram: weight, input, output"]
