"""Cycles of units that skip zeros, against those that the analytic model expects of their densities.

Each weight and input is other than zero with the probability of the case, whatever the others are. So cycles
vary around what is expected, with the deviation that `zero_cases.ZeroCase.sigma` derives from just that.
There is one unit, or there are up to 64 that wait for the one with most to do and share weights, inputs or
neither. Where some share weights and others inputs, the model takes more of them to be independent than are,
and expects too much.
"""

import numpy as np
import pytest

from tersor.scheme import INT8
from tersor.targets.accelerator.imbalance import Bout, Factor
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.simulator.simulation import simulate
from tests.targets.accelerator.simulator.zero_cases import parts, variance, zero_case

Floats = np.ndarray


def differences(seeds: range, units: bool) -> tuple[Floats, Floats]:
    """How far the cycles of the cases are from those expected: in their deviations, and in parts of them."""
    in_sigmas: list[float] = []
    in_parts: list[float] = []
    for seed in seeds:
        case = zero_case(seed, units)
        program = lower(case.layer, INT8, case.mapping, case.hardware)
        cycles = simulate(program, case.hardware, case.tensors(seed)).cycles
        in_sigmas.append((cycles - case.expected) / case.sigma(program))
        in_parts.append(cycles / case.expected - 1)
    return np.array(in_sigmas), np.array(in_parts)


@pytest.mark.parametrize("units", [False, True], ids=["one unit", "several"])
def test_cycles_are_as_near_to_those_expected_as_chance_has_them(units: bool) -> None:
    in_sigmas, _ = differences(range(100), units)
    assert np.mean(np.abs(in_sigmas) <= 3) >= 0.99
    assert 0.75 <= in_sigmas.std() <= 1.25
    assert abs(in_sigmas.mean()) <= 3 / np.sqrt(len(in_sigmas))


@pytest.mark.slow
@pytest.mark.parametrize("units", [False, True], ids=["one unit", "several"])
def test_the_mean_of_a_thousand_cases_is_that_expected(units: bool) -> None:
    in_sigmas, in_parts = differences(range(1000), units)
    assert np.mean(np.abs(in_sigmas) <= 3) >= 0.99
    assert abs(in_parts.mean()) <= 0.005


BOUTS = [
    Bout(10, 1, Factor(1, 16, 0.3), Factor(1, 1, 0.6)),
    Bout(1, 8, Factor(1, 1, 0.3), Factor(1, 1, 0.6)),
    Bout(20, 4, Factor(4, 1, 0.3), Factor(5, 1, 0.6)),
    Bout(10, 1, Factor(3, 8, 0.3), Factor(1, 1, 0.6)),
    Bout(20, 1, Factor(4, 8, 0.3), Factor(5, 1, 0.6)),
    Bout(1, 8, Factor(1, 8, 0.7), Factor(6, 1, 0.8)),
    Bout(10, 1, Factor(3, 8, 1.0), Factor(2, 4, 0.3)),
    Bout(400, 2, Factor(5, 1, 0.5), Factor(20, 4, 0.5)),
]


def drawn(bout: Bout, draws: int) -> Floats:
    """The most effectual products of a unit, of zeros that are drawn."""
    random = np.random.default_rng(1)
    most = np.zeros(draws)
    for _ in range(bout.apart):
        weights, inputs = (
            random.binomial(each.each, each.density, (draws, each.units, bout.channels)).astype(np.float64)
            for each in (bout.weight, bout.input)
        )
        most = np.maximum(most, (weights @ inputs.transpose(0, 2, 1)).max(axis=(1, 2)))
    return most


@pytest.mark.parametrize("bout", BOUTS, ids=str)
def test_the_largest_number_of_several_is_that_of_drawn_zeros(bout: Bout) -> None:
    """To half a percent, besides three deviations of the mean of those that are drawn."""
    found = drawn(bout, 4000)
    error = 3 * found.std() / np.sqrt(len(found))
    assert abs(bout.largest() - found.mean()) <= error + 0.005 * found.mean()


def test_one_unit_has_the_mean_and_a_certain_product_is_in_all() -> None:
    assert Bout(7, 1, Factor(3, 1, 0.25), Factor(2, 1, 0.5)).largest() == 7 * 3 * 2 * 0.125
    assert Bout(7, 4, Factor(3, 5, 1.0), Factor(2, 6, 1.0)).largest() == 7 * 3 * 2


def test_the_largest_of_binomials_is_exact() -> None:
    """Of two tosses of two coins: 0, 1 or 2 heads; the larger number is 1.375 in the mean."""
    assert Bout(2, 2, Factor(1, 1, 0.5), Factor(1, 1, 1.0)).largest() == pytest.approx(22 / 16)


def test_units_that_share_weights_and_inputs_are_expected_to_take_too_long() -> None:
    bout = Bout(8, 1, Factor(4, 8, 0.5), Factor(5, 8, 0.5))
    found = drawn(bout, 4000).mean()
    assert 1.01 * found <= bout.largest() <= 1.05 * found


def test_the_variance_of_one_unit_is_that_of_sums_of_products() -> None:
    bout = Bout(40, 1, Factor(3, 1, 0.3), Factor(4, 1, 0.6))

    def moments(factor: Factor) -> tuple[float, float]:
        return (factor.each * factor.density) ** 2, factor.each * factor.density * (1 - factor.density)

    (weight_square, weight_spread), (input_square, input_spread) = moments(bout.weight), moments(bout.input)
    exact = [weight_spread * input_square, weight_square * input_spread, weight_spread * input_spread]
    assert variance(bout) == pytest.approx(40 * sum(exact))
    assert parts(bout, draws=400) == pytest.approx([each / sum(exact) for each in exact], rel=0.2)
