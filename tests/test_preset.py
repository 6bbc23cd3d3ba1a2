"""Presets: every row of the table is a config that a network can be planned with."""

from pathlib import Path

import pytest

import tersor
from tersor.config import Config
from tersor.error import UserError
from tersor.planning import plan_for
from tersor.preset import Preset, preset, presets
from tersor.targets.cpu.host.detect import detect
from tests.models import mobile_net


def test_int8_is_the_compilers_default() -> None:
    assert preset("int8") == Config()


@pytest.mark.parametrize("name", presets())
def test_a_network_is_planned_by_every_preset(name: str) -> None:
    assert presets()[name].about
    mod = tersor.import_model(mobile_net())
    plan = plan_for(preset(name), mod, detect("plain"), None)
    assert {layer.scheme.weight for layer in plan.layers.values()} != {None}


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no preset 'tiny': it is one of int8"):
        preset("tiny")


def test_a_table_may_be_another(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[mine]\nabout = "mine"\nconfig.scheme = "w4a8"\n')
    assert presets(tmp_path / "mine.toml") == {"mine": Preset("mine", Config("w4a8"))}
