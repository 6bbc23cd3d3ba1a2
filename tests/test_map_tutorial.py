import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TUTORIAL = Path(__file__).parents[1] / "tutorials" / "map_a_machine.py"


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    spec = importlib.util.spec_from_file_location("map_a_machine", TUTORIAL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = ["first", "depthwise", "pointwise", "classes"]


def test_it_predicts_what_bounds_each_layer_and_executes_it(
    tutorial: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    tutorial.main()
    predicted, executed = capsys.readouterr().out.split("executed: ")
    eight, *layers, four = predicted.splitlines()[:6]
    assert (eight[:5], four[:5]) == ("int8:", "int4:")
    assert [line.split()[0] for line in layers] == NAMES
    assert "bound by dram, most energy in dram" in layers[3]
    assert "classes in int8:\ndram: weight, input, output\n" in predicted

    total, *ran, last = executed.splitlines()
    assert "100 % of the products on small" in total
    assert [line.split()[0] for line in ran] == [*NAMES[:3], "average_pool.1", NAMES[3]]
    assert [", predicted" in line for line in ran] == [True, True, True, False, True]
    assert last == "  outputs equal those of the CPU, bit for bit"
