"""The PE of Eyeriss v2 on sparse MobileNet-0.5, against the ground truth of Sparseloop's artifact.

A machine that skips makes the products of which no factor is zero and no others, so its cycles are known from
the zeros. A model that takes them to lie anywhere is too low: a channel of which the input is often zero has
been pruned in the weights, too, so dense channels meet dense ones. The sum over channels of density times
density is that of the means, and their covariance. One number for each layer says it: the correlation.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tersor.scheme import INT8
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.simulator.published import PE, pe_layer, pe_mapping

ROOT = Path(__file__).parents[3]
ROWS = json.loads((ROOT / "tests" / "golden" / "eyeriss_v2_pe.json").read_text())["rows"]
MEASURED = [row for row in ROWS if "measured" in row]


def cycles(row: dict, densities: Densities) -> float:
    """Cycles of the unit, with 4 x 32 weights kept while all inputs of their channels go by."""
    layer = pe_layer(row)
    mapping = pe_mapping(layer)
    assert why_not(layer, INT8, mapping, PE, densities) is None
    nest, sizes = Nest.of(mapping, layer, PE)
    return float(evaluate(nest, sizes, INT8, densities).latency.compute[0])


def bias(row: dict, densities: Densities) -> float:
    """By which part the model is below the ground truth."""
    return 1 - cycles(row, densities) / row["cycles"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["layer"])
def test_zeros_that_lie_anywhere_give_the_cycles_of_sparseloops_uniform_model(row: dict) -> None:
    """From the densities that it was given, which are rounded to two digits."""
    uniform = Densities(row["weight"], row["input"])
    assert cycles(row, uniform) == pytest.approx(row["sparseloop_uniform"], rel=4e-4)
    assert bias(row, uniform) > 0


def test_the_mean_error_of_the_uniform_model_is_sparseloops() -> None:
    """3.5 % of the eight layers of the artifact."""
    ours = [bias(row, Densities(row["weight"], row["input"])) for row in ROWS]
    theirs = [1 - row["sparseloop_uniform"] / row["cycles"] for row in ROWS]
    assert np.mean(ours) <= 0.035
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=2e-4)


def test_rounded_densities_are_not_the_reason() -> None:
    """Of the layers with measured masks: 4.4 % with rounded densities, 4.1 % with those of the masks."""
    rounded = [bias(row, Densities(row["weight"], row["input"])) for row in MEASURED]
    measured = [row["measured"] for row in MEASURED]
    exact = [
        bias(row, Densities(each["weight"], each["input"]))
        for row, each in zip(MEASURED, measured, strict=True)
    ]
    assert np.mean(rounded) == pytest.approx(0.0436, abs=5e-4)
    assert np.mean(exact) == pytest.approx(0.0406, abs=5e-4)


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row["layer"])
def test_one_number_for_the_correlation_gives_the_ground_truth(row: dict) -> None:
    assert cycles(row, Densities(**row["measured"])) == pytest.approx(row["cycles"], rel=1e-5)
