"""Cycles of executed programs against those that the analytic model expects.

The cases are broad: weights of 2 to 8 bits and inputs of 4 to 16, loops that divide the layer or do not, up
to four memories with one place for the tiles of an operand or two, one port or two and buses, busy for up to
twice the cycles of the array's steps, windows that slide and axes that share. Both go by the same rules, each
with code of its own: one moves all elements, one instruction after the other, and the other one those
iterations that differ. In most cases they are the same but for rounding.

Sums over all that moves, `model.evaluate`, are how the mapper ranks mappings. They say nothing of the order
of transfers, and are the further off the busier the ports are, and the more so where tiles are ragged.
"""

from random import Random

import numpy as np
import pytest

from tersor.targets.accelerator.model import evaluate, scheduled
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.simulator.layer_cases import run, tensors
from tests.targets.accelerator.simulator.timed_cases import timed_case
from tests.targets.accelerator.tiny_cases import with_homes


def errors(seeds: range, busiest: float, homes: bool = False) -> np.ndarray:
    """How many times more cycles than expected the cases of the seeds take, minus one.

    With `homes`, inputs and outputs stay on the chip where they can.
    """
    found = []
    for seed in seeds:
        case = timed_case(seed, most=100_000, busiest=busiest)
        if homes:
            case = with_homes(case, Random(seed), ("input", "output"))
        given = tensors(case.layer, seed, case.scheme)
        ran = run(case.layer, case.mapping, case.hardware, given, case.scheme)
        expected = scheduled(*Nest.of(case.mapping, case.layer, case.hardware), case.scheme).cycles
        found.append(ran.cycles / expected - 1)
    return np.abs(found)


def assert_near(found: np.ndarray) -> None:
    assert np.median(found) <= 1e-6
    assert np.mean(found) <= 0.01
    assert np.max(found) <= 0.05


def test_cycles_are_those_expected() -> None:
    assert_near(errors(range(100), 0.7))


def test_so_they_are_where_tensors_stay_on_the_chip() -> None:
    assert_near(errors(range(5000, 5100), 0.7, homes=True))


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_cycles_are_those_expected_in_a_thousand_cases(hundred: int) -> None:
    seeds = range(1000 + 100 * hundred, 1100 + 100 * hundred)
    assert_near(errors(seeds, 2.0))
    assert_near(errors(seeds, 2.0, homes=True))


def test_sums_over_all_that_moves_are_good_enough_to_rank_mappings() -> None:
    found = []
    for seed in range(200):
        case = timed_case(seed, most=100_000, busiest=0.7)
        nest, sizes = Nest.of(case.mapping, case.layer, case.hardware)
        quick = evaluate(nest, sizes, case.scheme).cycles[0]
        found.append(quick / scheduled(nest, sizes, case.scheme).cycles - 1)
    assert np.median(np.abs(found)) <= 0.005
    assert np.mean(np.abs(found)) <= 0.03
