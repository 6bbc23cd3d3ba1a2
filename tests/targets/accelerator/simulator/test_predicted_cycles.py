"""Cycles of executed programs against those that the analytic model expects.

Ports are busy for up to 0.7 of the cycles of the array's steps, and memories have one place for the tiles of
an operand, or two, so that much is waited for. Half of the cases agree to a thousandth; the mean of a hundred
is one to three percent, and up to ten of them are more than 5 % apart. In most of those the model is too
slow: where memories in a row have one place each, tiles of one operand come while another's are waited for.

Where ports are busy nearly all of the time, or for longer, the two are 3 % apart in the mean. The model is
then too fast: it lets any transfer use any idle cycle, but a tile cannot come before the place of the one
before the last is free, and what is left idle till then is lost. So it is where tiles are ragged, which
leaves some of them with less time to come in than others.
"""

import numpy as np
import pytest

from tersor.scheme import INT8
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.simulator.layer_cases import run, tensors
from tests.targets.accelerator.simulator.timed_cases import timed_case


def errors(seeds: range, most: int, busiest: float) -> np.ndarray:
    """How many times more cycles than expected the cases of the seeds take, minus one."""
    found = []
    for seed in seeds:
        case = timed_case(seed, most=most, busiest=busiest)
        ran = run(case.layer, case.mapping, case.hardware, tensors(case.layer, seed))
        expected = evaluate(*Nest.of(case.mapping, case.layer, case.hardware), INT8).cycles[0]
        found.append(ran.cycles / expected - 1)
    return np.array(found)


def test_cycles_are_those_expected() -> None:
    found = np.abs(errors(range(100), 100_000, 0.7))
    assert np.median(found) <= 0.001
    assert np.mean(found) <= 0.01
    assert np.mean(found <= 0.05) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_cycles_are_those_expected_in_a_thousand_cases(hundred: int) -> None:
    found = np.abs(errors(range(1000 + 100 * hundred, 1100 + 100 * hundred), 100_000, 0.7))
    assert np.mean(found) <= 0.03
    assert np.mean(found <= 0.05) >= 0.9
