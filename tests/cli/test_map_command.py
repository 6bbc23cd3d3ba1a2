"""tersor map: what layers take on a machine."""

import json
from pathlib import Path

import onnx
import pytest

from tests.cli.commands import EDGE, Tersor
from tests.models import conv_net


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
