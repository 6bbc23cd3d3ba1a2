"""Factors that are slower than the weight they replace are not emitted."""

from dataclasses import replace

import numpy as np
import pytest

from tersor.compiler import compile, load_model
from tersor.config import Config
from tersor.factor_race import may_race_factors, slower_chains
from tersor.passes.extract import extract
from tersor.planning import plan_for
from tersor.rule import Rule
from tersor.scheme import Scheme
from tersor.stopwatch import Stopwatch
from tests.models import Net, mlp


def test_the_times_of_all_factors_count_against_the_weight() -> None:
    model = load_model(mlp(), check=False)
    plan = plan_for("fp32+rank8", model.mod, model.host, None)
    weights = {name: 1e-6 for name in plan.layers}
    chains = {f"fc0.weight.{i}": 0.4e-6 for i in range(2)} | {f"fc1.weight.{i}": 0.6e-6 for i in range(2)}
    assert slower_chains(extract(model.mod), plan, chains, weights) == {
        "fc1.weight": "fp32+rank8 took 1.2 us, fp32 1.0 us"
    }


def test_a_plan_that_was_asked_for_by_the_layer_is_not_changed() -> None:
    model = load_model(mlp(), check=False)
    plan = plan_for("fp32+rank8", model.mod, model.host, None)
    scheme = Scheme.parse("fp32+rank8")
    assert may_race_factors(model, "fp32+rank8", plan)
    assert not may_race_factors(model, plan, plan)
    assert not may_race_factors(model, Config("fp32+rank8", objective="size"), plan)
    assert not may_race_factors(model, Config("fp32", rules=(Rule(scheme, "fc0*"),)), plan)
    assert not may_race_factors(model, "fp32", plan_for("fp32", model.mod, model.host, None))


def slow_factors() -> Net:
    """[1, 8, 24, 24]: a filter of few channels, whose factors only move data to and fro."""
    net = Net("slow", [1, 8, 24, 24])
    net.op("Relu", net.conv("x", "c", (8, 8), bias=True), name="y")
    return net


@pytest.mark.parametrize(("chain", "emitted"), [(1.0, "int8+tucker4x4"), (30.0, "int8")])
def test_what_is_emitted_is_what_is_faster(
    monkeypatch: pytest.MonkeyPatch, chain: float, emitted: str
) -> None:
    model = load_model(slow_factors().finish(rank=4), check=False)
    samples = [{"x": np.random.default_rng(i).normal(size=(1, 8, 24, 24)).astype("f4")} for i in range(3)]

    def layers(self: Stopwatch, builds: list) -> list[dict[str, float]]:
        return [{f"c.weight.{i}": chain * 1e-6 for i in range(3)}, {"c.weight": 10e-6}]

    def networks(self: Stopwatch, builds: list) -> list[np.ndarray]:
        seconds = [3 * chain * 1e-6, 10e-6]
        return [np.full(3, each) for each in seconds]

    monkeypatch.setattr(Stopwatch, "layers", layers)
    monkeypatch.setattr(Stopwatch, "networks", networks)
    compiled = compile(model, samples, "int8+tucker4x4")
    planned = compiled.plan.layers["c.weight"]
    assert str(planned.scheme) == emitted
    assert (planned.reason == "") == (emitted != "int8")
    assert "it is emitted" in compiled.report.race
    again = compile(model, samples, compiled.plan)
    np.testing.assert_array_equal(again(samples[0])[0], compiled(samples[0])[0])
    assert replace(again.plan, statistics=None) == replace(compiled.plan, statistics=None)
