"""Pruning by gradients, from a recipe through saved statistics to the same network again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import calibrated_plan, silent
from tersor.compression import reshape_layers
from tersor.config import Config
from tersor.ir.graph import weights_of
from tersor.model import Model
from tersor.plan import Plan
from tersor.recipe import Recipe
from tersor.statistics import Statistics
from tests.models import conv_net, random_inputs


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(conv_net(), check=False)


@pytest.fixture(scope="module")
def samples() -> list[Mapping[str, Any]]:
    return [random_inputs(conv_net(), seed) for seed in range(6)]


@pytest.mark.parametrize("scheme", ["fp32+sparse50", "fp32+channels40"])
@pytest.mark.parametrize("repair", [False, True])
def test_a_plan_by_gradients_is_carried_out_again(
    scheme: str, repair: bool, model: Model, samples: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    config = Config(scheme, recipe=Recipe(criterion="taylor", repair=repair))
    plan, statistics = calibrated_plan(model, samples, samples, config, len(samples), silent)
    assert statistics.origin is not None
    assert statistics.origin.saliencies["conv0.weight"].samples == len(samples)
    statistics.save(tmp_path / "statistics.npz")
    plan.save(tmp_path / "plan.json")
    known, written = Statistics.load(tmp_path / "statistics.npz"), Plan.load(tmp_path / "plan.json")
    assert known.digest() == statistics.digest() == written.statistics
    first, again = (
        weights_of(reshape_layers(model.mod, each, seen)[0])
        for each, seen in ((plan, statistics), (written, known))
    )
    assert first.keys() == again.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    pruned = sum(np.count_nonzero(value) for value in first.values())
    assert pruned < 0.8 * sum(value.size for value in weights_of(model.mod).values())


def test_the_weights_that_matter_least_to_the_loss_go(model: Model, samples: list[Mapping[str, Any]]) -> None:
    config = Config("fp32+2:4", recipe=Recipe(criterion="taylor", repair=False))
    plan, statistics = calibrated_plan(model, samples, samples, config, len(samples), silent)
    assert statistics.origin is not None
    kept = weights_of(reshape_layers(model.mod, plan, statistics)[0])["fc.weight"].T != 0
    scores = statistics.origin.saliencies["fc.weight"].weights.reshape(-1, 4)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = np.zeros(scores.shape, bool)
    np.put_along_axis(expected, order[:, :2], True, axis=1)
    np.testing.assert_array_equal(kept.reshape(-1, 4), expected)
