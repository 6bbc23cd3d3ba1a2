"""Presets: every row of the table is a config that a network can be planned with."""

from pathlib import Path

import pytest

import tersor
from tersor.compiler import calibrated_plan, silent
from tersor.config import Config
from tersor.error import UserError
from tersor.preset import Preset, preset, presets
from tests.models import mobile_net, random_inputs


def test_int8_is_the_compilers_default() -> None:
    assert preset("int8") == Config()


@pytest.mark.parametrize("name", presets())
def test_a_network_is_planned_by_every_preset(name: str) -> None:
    assert presets()[name].about
    model = tersor.load_model(mobile_net(), check=False)
    data = [random_inputs(mobile_net(), seed) for seed in range(2)]
    plan, _ = calibrated_plan(model, data, data, preset(name), len(data), silent)
    assert {layer.scheme.weight for layer in plan.layers.values()} != {None}


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no preset 'tiny': it is one of int8"):
        preset("tiny")


def test_a_table_may_be_another(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[mine]\nabout = "mine"\nconfig.scheme = "w4a8"\n')
    assert presets(tmp_path / "mine.toml") == {"mine": Preset("mine", Config("w4a8"))}
