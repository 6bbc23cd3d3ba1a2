"""Values, accesses and steps of executed programs, against arithmetic and the analytic counts."""

import numpy as np
import pytest

from tersor.targets.accelerator.counts import count
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.simulator.simulation import simulate
from tests.targets.accelerator.lowering.cases import lowered_case
from tests.targets.accelerator.simulator.layer_cases import expected_sums, tensors


def check(seed: int) -> None:
    """Bypassed memories, ragged tiles, halos and all ways of sharing are among the cases."""
    case, program = lowered_case(seed, most_products=600)
    given = tensors(case.layer, seed)
    ran = simulate(program, case.hardware, given)
    counted = count(*Nest.of(case.mapping, case.layer, case.hardware))
    about = f"seed {seed}: {case}"
    np.testing.assert_array_equal(ran.output, expected_sums(case.layer, given), about)
    np.testing.assert_array_equal(ran.reads, counted.reads[..., 0], about)
    np.testing.assert_array_equal(ran.writes, counted.writes[..., 0], about)
    np.testing.assert_array_equal(ran.busiest_reads[:, :2], counted.busiest_reads[:, :2, 0], about)
    np.testing.assert_array_equal(ran.busiest_writes[:, :2], counted.busiest_writes[:, :2, 0], about)
    assert ran.steps == counted.steps[0], about


@pytest.mark.parametrize("ten", range(15))
def test_sums_and_accesses_are_those_of_arithmetic_and_of_the_analytic_model(ten: int) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_sums_and_accesses_are_the_same_on_a_thousand_cases(hundred: int) -> None:
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        check(seed)
