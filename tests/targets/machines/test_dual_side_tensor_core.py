"""A tensor core that skips zeros of both factors, against DSTC (Wang et al., ISCA 2021, figure 21)."""

from math import ceil, comb
from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.scheme import INT8
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.model import arithmetic_of

MACHINE = Hardware.load(Path(__file__).parents[3] / "targets" / "machines" / "dual_side_tensor_core.toml")
# Densities of both factors, and cycles that Sparseloop's artifact reads off it; 4600 for the dense ones.
CYCLES = {
    (0.9, 1.0): 4160, (0.7, 1.0): 3300, (0.5, 1.0): 2690, (0.3, 1.0): 1930, (1.0, 0.4): 2500,
    (0.9, 0.4): 2300, (0.7, 0.4): 1820, (0.5, 0.4): 1480, (0.3, 0.4): 1100,
}  # fmt: skip


def filled(density: float, lanes: int) -> float:
    """Share of the time for 32 elements, if those that are not zero take `lanes` at a time."""
    counts = (comb(32, n) * density**n * (1 - density) ** (32 - n) * ceil(n / lanes) for n in range(33))
    return sum(counts) * lanes / 32


@pytest.mark.parametrize("densities", CYCLES, ids=str)
def test_it_is_never_slower_in_the_model_than_published(densities: tuple[float, float]) -> None:
    rate = arithmetic_of(INT8, MACHINE, Densities(*densities)).rate
    assert 1 / rate == pytest.approx(densities[0] * densities[1])
    assert 1 / rate <= CYCLES[densities] / 4600 * 1.001


def test_what_is_missing_are_lanes_that_stay_empty() -> None:
    """Tiles of 32 x 32 are taken 8 x 16 elements at a time; the model knows of no such groups."""
    errors = [abs(filled(a, 8) * filled(b, 16) / (each / 4600) - 1) for (a, b), each in CYCLES.items()]
    ideal = [abs(a * b / (each / 4600) - 1) for (a, b), each in CYCLES.items()]
    assert sum(errors) / len(errors) < 0.065
    assert sum(ideal) / len(ideal) > 0.2
