"""ZigZag's mappings of ResNet-18 on its `tpu_like`, as it found them, in our model; `benchmarks/mappers.py`
makes them and also scores ours in ZigZag's."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import INT8
from tersor.targets.accelerator.mapper.mapper import Found, Mapper
from tersor.targets.accelerator.model import estimate, evaluate, scheduled
from tersor.targets.accelerator.nest import Nest

ROOT = Path(__file__).parents[4]
TPU_LIKE = Hardware.load(ROOT / "benchmarks" / "tpu_like.toml")
LAYERS: dict[str, Layer] = {
    layer.name: layer for layer in runpy.run_path(str(ROOT / "benchmarks" / "resnet18.py"))["layers"]()
}
GOLDEN: dict[str, Any] = json.loads((ROOT / "tests" / "golden" / "zigzag.json").read_text())["layers"]
QUICK = ("first", "64-64", "256-256", "last")


def test_every_layer_was_mapped() -> None:
    assert list(GOLDEN) == list(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_the_models_agree_on_the_energy_of_zigzags_mappings(name: str) -> None:
    """ZigZag reads an input once that stays in place during the innermost loop, ours for each product."""
    for row in GOLDEN[name]["mappings"]:
        mapping = parse_tree(row["tree"])
        energy = estimate(LAYERS[name], INT8, mapping, TPU_LIKE).energy
        if mapping.loops[-1].dim == "K":
            assert energy >= 0.99 * row["energy"]
        else:
            assert energy == pytest.approx(row["energy"], rel=0.011)


def assert_never_worse(name: str) -> None:
    layer = LAYERS[name]
    ours: list[Found] = [Mapper(TPU_LIKE, ragged=ragged).map(layer) for ragged in (True, False)]
    nests = [Nest.of(parse_tree(row["tree"]), layer, TPU_LIKE) for row in GOLDEN[name]["mappings"]]
    cycles = [scheduled(nest, sizes, INT8).cycles for nest, sizes in nests]
    energies = [float(evaluate(nest, sizes, INT8).energy[0]) for nest, sizes in nests]
    slack = 1 + 1e-9
    assert min(each.fastest.cycles for each in ours) <= min(cycles) * slack
    assert min(each.least_energy.energy for each in ours) <= min(energies) * slack
    edp = min(c * e for c, e in zip(cycles, energies, strict=True))
    assert min(each.least_edp.edp for each in ours) <= edp * slack


@pytest.mark.parametrize("name", QUICK)
def test_our_mappings_are_never_worse(name: str) -> None:
    assert_never_worse(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in QUICK])
def test_our_mappings_of_the_other_layers_are_never_worse(name: str) -> None:
    assert_never_worse(name)
