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

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import INT8
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.simulator.tensors import Tensors
from tests.targets.accelerator.simulator.layer_cases import ZERO_POINT, run, stored, tensors
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


MATMUL = Layer("fc", "matmul", N=12, K=16, C=40)
DENSITIES = ((0.5, 0.5), (0.2, 0.8), (1.0, 0.4), (0.7, 1.0))


def skipping(units: int) -> tuple[Hardware, str]:
    """Units that go from one effectual product to the next, and loops of which each has its own filters."""
    machine = Hardware(
        "skipping",
        1e9,
        (Compute("int8", units),),
        (Memory("dram", 1 << 30, 1e30),),
        axes=(Axis("rows", units, "dram"),),
        datapath=Datapath(skips=("weight", "input")),
    )
    loops = f"K in {MATMUL.K // units}", "N in 12", "C in 40", f"K in {units} on rows"
    lines = ["dram: weight, input, output", *(f"for {loop}" for loop in loops)]
    return machine, "\n".join("  " * depth + line for depth, line in enumerate(lines)) + "\n"


def masked(seed: int, weight: float, input: float) -> Tensors:
    """Factors of which each is other than zero with these probabilities."""
    random = np.random.default_rng(seed)
    weights = np.where(random.random(MATMUL.weight_shape) < weight, 1, 0).astype(np.float32)
    weights[0, 0] = 1  # for the scale to be 1
    codes = np.where(random.random((MATMUL.N, MATMUL.C)) < input, 100, ZERO_POINT).astype(np.uint8)
    return Tensors(codes, ZERO_POINT, stored(weights, MATMUL, INT8), np.zeros(MATMUL.K, np.int32))


def sigma(weight: float, input: float) -> float:
    """Of the effectual products: for each input channel, what its weights and its inputs have, multiplied."""

    def moments(tries: int, density: float) -> tuple[float, float]:
        mean = tries * density
        return mean, mean * (1 - density) + mean**2

    (filters, filters_squared), (rows, rows_squared) = moments(MATMUL.K, weight), moments(MATMUL.N, input)
    return float(np.sqrt(MATMUL.C * (filters_squared * rows_squared - (filters * rows) ** 2)))


def test_a_skipping_unit_takes_the_cycles_expected_of_random_zeros() -> None:
    machine, tree = skipping(1)
    mapping = parse_tree(tree)
    for weight, input in DENSITIES:
        ran = [run(MATMUL, mapping, machine, masked(seed, weight, input)).cycles for seed in range(100)]
        found = evaluate(*Nest.of(mapping, MATMUL, machine), INT8, Densities(weight, input))
        away = np.array(ran) - found.cycles[0]
        assert np.mean(np.abs(away) <= 3 * sigma(weight, input)) >= 0.99
        # The mean of a hundred, too, is only known to three of its own sigma.
        assert abs(away.mean()) <= max(0.005 * found.cycles[0], 0.3 * sigma(weight, input))


def test_units_that_wait_for_one_another_take_as_long_as_the_one_with_most_to_do() -> None:
    machine, tree = skipping(4)
    mapping = parse_tree(tree)
    ran = run(MATMUL, mapping, machine, masked(0, 0.5, 0.5))
    expected = evaluate(*Nest.of(mapping, MATMUL, machine), INT8, Densities(0.5, 0.5)).cycles[0]
    assert ran.cycles == pytest.approx(ran.products / 4 + ran.stalls["imbalance"])
    assert expected == MATMUL.macs / 4 / 4
    assert ran.stalls["imbalance"] > 0
