"""Machines with published cycles, executed: to the cycle what SCALE-Sim and Eyeriss v2's ground truth say."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.targets.accelerator.simulator.layer_cases import expected_sums
from tests.targets.accelerator.simulator.published import at_work, pe_layer, pe_run, pe_tensors, systolic_run

GOLDEN = Path(__file__).parents[3] / "golden"
SCALE_SIM = json.loads((GOLDEN / "scale_sim.json").read_text())["rows"]
PE_ROWS = json.loads((GOLDEN / "eyeriss_v2_pe.json").read_text())["rows"]


@pytest.mark.parametrize("row", SCALE_SIM, ids=str)
def test_systolic_arrays_take_the_cycles_of_scale_sim(row: list) -> None:
    stationary, side, m, n, k, published = row
    ran, layer, given = systolic_run(stationary, side, side, (m, n, k))
    assert round(ran.cycles, 6) - 1 == published, "SCALE-Sim counts from 0"
    np.testing.assert_array_equal(ran.output, expected_sums(layer, given))


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=() if row["layer"] == "L13" else pytest.mark.slow) for row in PE_ROWS],
    ids=lambda row: row["layer"],
)
def test_the_pe_of_eyeriss_v2_takes_a_cycle_for_each_product_without_a_zero(row: dict) -> None:
    """The ground truth of the artifact is the sum over channels of nonzero weights times nonzero inputs.

    `benchmarks/simulated.py` runs its masks; these have its densities, and dense channels that meet.
    """
    layer, random = pe_layer(row), np.random.default_rng(0)
    lean = random.uniform(0.7, 1.3, layer.C)  # of a channel, in weights and inputs alike
    weights = random.random((layer.K, layer.C)) < row["weight"] * lean
    inputs = random.random((layer.P, layer.Q, layer.C)) < row["input"] * lean
    effectual = int((weights.sum(axis=0) * inputs.sum(axis=(0, 1))).sum())
    given = pe_tensors(layer, weights, inputs)
    ran = pe_run(layer, given)
    assert ran.products == effectual
    assert at_work(ran) == pytest.approx(effectual, abs=1)
    np.testing.assert_array_equal(ran.output, expected_sums(layer, given))
