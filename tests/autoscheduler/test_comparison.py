"""What is chosen is beside what searches find that may choose less, and beside plans for other machines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tersor
from tersor.autoscheduler.driver import search
from tersor.autoscheduler.report import SearchReport
from tersor.autoscheduler.settings import Settings
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.scheduler.contract import Contract
from tests.models import conv_net

MACHINES = Path(__file__).parents[2] / "targets" / "machines"
CONTRACT = Contract("edp", max_drop=10.0)


def samples() -> list[dict[str, np.ndarray]]:
    model = tersor.load_model(conv_net(), check=False)
    random = np.random.default_rng(0)
    ((name, (shape, _)),) = model.inputs.items()
    return [{name: random.normal(size=shape).astype(np.float32)} for _ in range(24)]


@pytest.fixture(scope="module")
def report() -> SearchReport:
    model = tersor.load_model(conv_net(), check=False, hardware=Hardware.load(MACHINES / "edge.toml"))
    also = (Hardware.load(MACHINES / "bit_fusion.toml"),)
    settings = Settings(trials=4, loss_samples=8, effort=300, last_effort=600, ablations=True, also=also)
    return search(model, samples(), CONTRACT, settings).report


def test_choosing_together_is_beside_all_that_may_choose_less(report: SearchReport) -> None:
    assert [each.name for each in report.ablations] == [
        "sequential",
        "sequential, its formats",
        "uniform",
        "int8",
        "mapping only",
        "joint",
    ]
    *less, together = report.ablations
    assert together.drop <= 10.0
    best = min(each.cost.energy * each.cost.seconds for each in less if each.drop <= 10.0)
    assert together.cost.energy * together.cost.seconds <= best * 1.001


def test_each_machines_plan_is_run_on_each(report: SearchReport) -> None:
    edp = {
        (each.searched_for, each.run_on): each.cost.energy * each.cost.seconds for each in report.transfers
    }
    assert edp.keys() == {(one, other) for one in ("edge", "bit_fusion") for other in ("edge", "bit_fusion")}
    assert edp["edge", "edge"] <= edp["bit_fusion", "edge"]
    assert edp["bit_fusion", "bit_fusion"] <= edp["edge", "bit_fusion"]


def test_formats_that_a_machine_lacks_are_counted(report: SearchReport) -> None:
    widened = {(each.searched_for, each.run_on): each.widened for each in report.transfers}
    assert widened["edge", "edge"] == widened["bit_fusion", "bit_fusion"] == 0
    assert widened["bit_fusion", "edge"] >= 0


def test_no_comparison_is_made_that_nobody_asked_for() -> None:
    settings = Settings(trials=2, loss_samples=8, effort=100, last_effort=100)
    model = tersor.load_model(conv_net(), check=False, hardware=Hardware.load(MACHINES / "edge.toml"))
    report = search(model, samples(), CONTRACT, settings).report
    assert report.ablations == report.transfers == ()


def test_machines_whose_energies_are_not_known_are_refused_before_work_begins() -> None:
    edge = Hardware.load(MACHINES / "edge.toml")
    unknown = replace(
        edge,
        name="unknown",
        memories=tuple(
            replace(each, energy_per_byte=0.0, write_energy_per_byte=None) for each in edge.memories
        ),
        compute=tuple(replace(each, energy_per_mac=0.0) for each in edge.compute),
    )
    model = tersor.load_model(conv_net(), check=False, hardware=Hardware.load(MACHINES / "edge.toml"))
    with pytest.raises(UserError, match="unknown gives no energies"):
        search(model, samples(), CONTRACT, Settings(also=(unknown,)))
