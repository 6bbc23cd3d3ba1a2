"""A search finds, compiles and reports a plan that keeps its contract, and goes on where it was killed."""

import re
from pathlib import Path

import numpy as np
import pytest

import tersor
from tersor.autoscheduler.driver import search
from tersor.autoscheduler.report import SearchReport
from tersor.autoscheduler.result import Searched
from tersor.autoscheduler.settings import Settings
from tersor.autoscheduler.spot_check import spot_check
from tersor.compiler import silent
from tersor.error import UserError
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.hardware import Hardware
from tersor.model import Model
from tersor.plan import Plan
from tersor.scheduler.contract import Contract
from tersor.scheme import Scheme
from tersor.targets.accelerator.residency import with_size
from tests.models import conv_net

EDGE = Hardware.load(Path(__file__).parents[2] / "targets" / "machines" / "edge.toml")
KINDS = 24  # samples


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    model = tersor.load_model(conv_net(), check=False)
    random = np.random.default_rng(0)
    ((name, (shape, _)),) = model.inputs.items()
    return [{name: random.normal(size=shape).astype(np.float32)} for _ in range(KINDS)]


@pytest.fixture(scope="module")
def on_edge() -> Model:
    return tersor.load_model(conv_net(), check=False, hardware=EDGE)


@pytest.fixture(scope="module")
def found(
    on_edge: Model, samples: list[dict[str, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Searched, Path]:
    journal = tmp_path_factory.mktemp("search") / "search.sqlite"
    settings = Settings(journal=journal, trials=4, loss_samples=8, effort=500, last_effort=2000)
    return search(on_edge, samples, Contract("edp", max_drop=10.0), settings), journal


def test_the_plan_that_is_chosen_keeps_the_contract_and_beats_int8(found: tuple[Searched, Path]) -> None:
    report = found[0].report
    assert report.kept
    assert report.choice.known == "final"
    assert report.baseline is not None
    assert report.choice.of("edp") <= report.baseline.of("edp")
    assert report.certificate is not None
    assert report.certificate.gap <= 0.01


def test_simulating_the_plan_takes_what_was_predicted(found: tuple[Searched, Path]) -> None:
    report = found[0].report
    assert report.spot_check is not None
    assert report.spot_check.seconds == pytest.approx(report.choice.cost.seconds, rel=0.2)
    assert report.spot_check.energy == pytest.approx(report.choice.cost.energy, rel=0.2)


def test_tensors_between_layers_stay_on_the_chip_where_that_is_better(found: tuple[Searched, Path]) -> None:
    searched = found[0]
    kept = [each for each in searched.report.tensors if not each.reason]
    assert kept
    edges = {(edge.producer, edge.consumer) for edge in searched.plan.edges if edge.on_chip}
    assert edges == {(each.producer, reader) for each in kept for reader in each.readers}
    machine = searched.compiled.report.machine
    assert machine is not None
    assert [each.producer for each in machine.on_chip] == [each.producer for each in kept]
    assert f"{len(kept)} tensors stay on the chip" in searched.compiled.report.text()


def test_the_plans_of_the_front_are_plans_of_this_model(found: tuple[Searched, Path]) -> None:
    searched = found[0]
    assert len(searched.front) >= 10
    for plan in searched.front.values():
        assert plan.model == searched.plan.model
        assert plan.layers.keys() == searched.plan.layers.keys()
    front = [each for each in searched.report.plans if each.name in searched.front]
    taken = [each.of("edp") for each in front]
    assert taken == sorted(taken, reverse=True)


def test_a_plan_of_the_front_takes_what_was_predicted(
    found: tuple[Searched, Path], on_edge: Model, samples: list[dict[str, np.ndarray]]
) -> None:
    searched = found[0]
    costs = {each.name: each.cost for each in searched.report.plans}
    kept: list[int] = []
    for name in ("front-02", "front-05", "front-11"):  # some of it in floats, int8 and narrower, factors
        plan = searched.front[name]
        compiled = tersor.compile(on_edge, samples, plan, calibration_samples=len(samples))
        machine = compiled.report.machine
        assert machine is not None
        readers = {(each.producer, reader) for each in machine.on_chip for reader in each.readers}
        assert readers == {(edge.producer, edge.consumer) for edge in plan.edges}
        kept.append(len(readers))
        parts = {f"{layer}.{part}" for layer in plan.layers for part in range(3)}
        if all(layer.scheme.input for layer in plan.layers.values()):
            check = spot_check(compiled.runner, samples[0], {*plan.layers, *parts}, EDGE, silent)
            assert check is not None
            assert check.seconds == pytest.approx(costs[name].seconds, rel=0.02)
            assert check.energy == pytest.approx(costs[name].energy, rel=0.05)
    assert kept[0] < kept[1] < kept[2]


def test_what_is_too_large_in_int8_stays_where_it_is_narrow(
    samples: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    small = with_size(EDGE, 1, 5 << 10)  # the tensor between the convolutions is 4,624 bytes in int8
    model = tersor.load_model(conv_net(), check=False, hardware=small)
    settings = Settings(journal=tmp_path / "j.sqlite", trials=2, loss_samples=8, effort=200, last_effort=200)
    searched = search(model, samples, Contract("edp", max_drop=100.0), settings)
    costs = {each.name: each.cost for each in searched.report.plans}
    stays = {  # also between the layers that factors make of the two
        name: any(edge.producer[:5] == "conv0" and edge.consumer[:5] == "conv1" for edge in plan.edges)
        for name, plan in searched.front.items()
    }
    assert stays == {
        name: plan.layers["conv1.weight"].scheme.input_bits <= 4 for name, plan in searched.front.items()
    }
    last = max(name for name in stays if stays[name])
    compiled = tersor.compile(model, samples, searched.front[last], calibration_samples=len(samples))
    parts = {f"{layer}{part}" for layer in searched.plan.layers for part in ("", ".0", ".1")}
    check = spot_check(compiled.runner, samples[0], parts, small, silent)
    assert check is not None
    assert check.seconds == pytest.approx(costs[last].seconds, rel=0.02)
    assert check.energy == pytest.approx(costs[last].energy, rel=0.05)


def test_mappings_are_chosen_with_the_schemes(found: tuple[Searched, Path]) -> None:
    assert all(layer.mappings for layer in found[0].plan.layers.values())


def test_layers_take_together_what_the_plan_takes(found: tuple[Searched, Path]) -> None:
    report = found[0].report
    assert all(layer.cost.energy > 0 for layer in report.layers)
    for name in ("seconds", "energy"):
        total = sum(getattr(layer.cost, name) for layer in report.layers)
        assert total == pytest.approx(getattr(report.choice.cost, name))


def test_all_is_written_and_reads_back(found: tuple[Searched, Path], tmp_path: Path) -> None:
    searched = found[0]
    searched.save(tmp_path / "out")
    assert SearchReport.load(tmp_path / "out" / "search.json") == searched.report
    assert Plan.load(tmp_path / "out" / "plan.json") == searched.plan
    assert Plan.load(tmp_path / "out" / "front-01.json") == searched.front["front-01"]
    assert "<!DOCTYPE html>" in (tmp_path / "out" / "report.html").read_text()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What evaluators measure."""
    seen: list[str] = []
    loss, evaluate = NetworkEvaluator.loss, NetworkEvaluator.evaluate

    def watched_loss(self: NetworkEvaluator, layers: list[str], scheme: Scheme) -> float:
        seen.append(f"{layers[0]}={scheme}")
        return loss(self, layers, scheme)

    def watched_evaluate(self: NetworkEvaluator, schemes: dict[str, Scheme]) -> object:
        seen.append("all")
        return evaluate(self, schemes)

    monkeypatch.setattr(NetworkEvaluator, "loss", watched_loss)
    monkeypatch.setattr(NetworkEvaluator, "evaluate", watched_evaluate)
    return seen


def test_a_second_run_measures_nothing_again_and_has_the_same_plan(
    found: tuple[Searched, Path], on_edge: Model, samples: list[dict[str, np.ndarray]], measured: list[str]
) -> None:
    searched, journal = found
    settings = Settings(journal=journal, trials=4, loss_samples=8, effort=500, last_effort=2000)
    again = search(on_edge, samples, Contract("edp", max_drop=10.0), settings)
    assert measured == []
    assert again.plan == searched.plan
    assert again.front == searched.front


def test_a_run_that_breaks_off_goes_on_without_what_it_measured(
    found: tuple[Searched, Path],
    on_edge: Model,
    samples: list[dict[str, np.ndarray]],
    measured: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(
        journal=tmp_path / "search.sqlite", trials=4, loss_samples=8, effort=500, last_effort=2000
    )
    loss = NetworkEvaluator.loss

    def broken(self: NetworkEvaluator, layers: list[str], scheme: Scheme) -> float:
        if len(measured) == 5:
            raise RuntimeError("killed")
        return loss(self, layers, scheme)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkEvaluator, "loss", broken)
        with pytest.raises(RuntimeError, match="killed"):
            search(on_edge, samples, Contract("edp", max_drop=10.0), settings)
    again = search(on_edge, samples, Contract("edp", max_drop=10.0), settings)
    assert again.plan == found[0].plan
    assert again.front == found[0].front
    losses = [each for each in measured if each != "all"]
    assert len(losses) == len(set(losses)), "measured twice"


def test_a_budget_that_is_too_short_is_refused_before_anything_is_compiled_for_the_search(
    on_edge: Model, samples: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tersor.autoscheduler.driver.calibrate", None)
    monkeypatch.setattr("tersor.autoscheduler.driver.NetworkEvaluator", None)
    with pytest.raises(UserError) as refused:
        search(on_edge, samples, Contract("edp", max_drop=10.0, budget=0.01))
    assert re.fullmatch(
        r"a budget of 10 ms is too short to compile a plan: give [0-9.]+ (s|min).* or more",
        str(refused.value),
    )


def test_energy_is_not_asked_of_a_cpu(samples: list[dict[str, np.ndarray]]) -> None:
    with pytest.raises(UserError, match="no energies"):
        search(tersor.load_model(conv_net(), check=False), samples, Contract("energy"))


def test_a_plan_for_this_cpu_is_raced_with_int8_and_fp32(samples: list[dict[str, np.ndarray]]) -> None:
    model = tersor.load_model(conv_net(), check=False)
    searched = search(model, samples, Contract("latency", max_drop=20.0), Settings(trials=2, loss_samples=8))
    final = {plan.name: plan.cost.seconds for plan in searched.report.plans if plan.known == "final"}
    assert {"int8", "fp32"} <= final.keys()
    assert all(seconds > 0 for seconds in final.values())
    assert searched.report.kept
