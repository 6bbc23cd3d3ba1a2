"""A network rounded as its recipe says: from calibration to what the compiled library computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import Model
from tersor.compression import compress
from tersor.config import Config
from tersor.error import UserError
from tersor.recipe import Recipe, Rounding
from tests.models import Net


def net() -> Any:
    """[1, 3, 8, 8]: conv, depthwise, conv with ReLU between them, pool and dense."""
    net = Net("rounded", [1, 3, 8, 8], 0)
    x = net.op("Relu", net.conv("x", "conv0", (3, 16), bias=True), name="relu0")
    x = net.op("Relu", net.conv(x, "depthwise", (16, 16), groups=16, bias=True), name="relu1")
    x = net.op("Relu", net.conv(x, "conv1", (16, 24), 1, bias=True), name="relu2")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="pool"), name="flatten")
    net.linear(x, "fc", (24, 10), last=True)
    return net.finish()


def images(count: int, seed: int) -> list[dict[str, Any]]:
    """Smooth random images: neighbouring pixels, and so the columns of the layers' rows, are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.5, 1, (count, 1, 3, 4, 4)).astype(np.float32)
    return [{"x": each.repeat(2, axis=2).repeat(2, axis=3)} for each in coarse]


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(net())


def snr(model: Model, recipe: Recipe, scheme: str = "w4a8") -> float:
    compiled = tersor.compile(
        model, images(16, 0), Config(scheme, recipe=recipe), evaluation=images(16, 1), measure=False
    )
    assert {layer.scheme for layer in compiled.report.layers} == {scheme}
    assert compiled.report.totals.snr_db is not None
    return compiled.report.totals.snr_db


@pytest.mark.parametrize("rounding", ["gptq", "adaround"])
def test_rounding_by_the_data_leaves_less_noise(model: Model, rounding: Rounding) -> None:
    assert snr(model, Recipe(rounding=rounding)) > snr(model, Recipe(rounding="nearest")) + 2


def test_equalized_and_smoothed_networks_stay_near_fp32(model: Model) -> None:
    assert snr(model, Recipe(equalize=True), "int8") > 25
    assert snr(model, Recipe(equalize=True, smooth=0.5, rounding="gptq"), "int8") > 25


def test_a_saved_calibration_carries_the_plan_out_again(model: Model, tmp_path: Path) -> None:
    recipe = Recipe(equalize=True, smooth=0.5, rounding="gptq")
    compiled = tersor.compile(model, images(8, 0), Config("w4a8", recipe=recipe), measure=False)
    compiled.save(tmp_path / "out")
    plan = tersor.Plan.load(tmp_path / "out" / "plan.json")
    statistics = tersor.Statistics.load(tmp_path / "out" / "statistics.npz")
    assert plan.recipe == recipe
    assert statistics.origin is not None
    assert plan.statistics == statistics.digest()
    again = model.compiled([compress(model.mod, plan, statistics)]).runner
    for image in images(4, 2):
        np.testing.assert_array_equal(again(image)[0], compiled(image)[0])
    repeated = tersor.compile(model, images(8, 0), plan, measure=False)
    assert repeated.statistics.digest() == plan.statistics
    np.testing.assert_array_equal(repeated(images(1, 2)[0])[0], compiled(images(1, 2)[0])[0])


def test_statistics_without_what_the_recipe_needs_are_refused(model: Model) -> None:
    compiled = tersor.compile(
        model, images(2, 0), Config("w4a8", recipe=Recipe(rounding="gptq")), measure=False
    )
    assert set(compiled.statistics.grams) == {layer.name for layer in compiled.report.layers}
    bare = replace(compiled.statistics, grams={})
    with pytest.raises(UserError, match="calibrate again with this recipe"):
        compress(model.mod, compiled.plan, bare)
