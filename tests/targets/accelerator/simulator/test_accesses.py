"""Values, accesses, bits and energy of executed programs, against arithmetic and the analytic model.

Elements have 2 to 16 bits, lie in words or touch, in any representation; sums are as wide as the machine's
accumulator. None is zero but for the weights that a pattern drops, so that bits are known to the last one.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tersor.formats.encoded import Encoded
from tersor.hardware import Hardware
from tersor.layer import Layer, Operand
from tersor.loop_tree import parse_tree
from tersor.scheme import Scheme
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.simulator.simulation import simulate
from tests.targets.accelerator.simulator.counted_cases import counted_case
from tests.targets.accelerator.simulator.layer_cases import expected_sums, run, tensors
from tests.targets.accelerator.tiny_cases import OPERANDS, with_homes

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")


def check(seed: int, homes: bool = False) -> None:
    """Bypassed memories, ragged tiles, halos, all ways of sharing and patterns are among the cases.

    With `homes`, operands lie in inner memories from the beginning, where they can.
    """
    drawn = counted_case(seed)
    case, scheme = drawn.case, drawn.scheme
    given = drawn.tensors(seed)
    if homes:
        bears = isinstance(given.weight, Encoded)
        case = replace(case, layer=replace(case.layer, weight_bearing=bears))
        movable: tuple[Operand, ...] = ("input", "output")
        case = with_homes(case, Random(seed), movable if bears else OPERANDS)
    ran = simulate(lower(case.layer, scheme, case.mapping, case.hardware), case.hardware, given)
    found = evaluate(*Nest.of(case.mapping, case.layer, case.hardware), scheme)
    counted, traffic = found.counts, found.traffic
    about = f"seed {seed}: {scheme} {case}"
    np.testing.assert_array_equal(ran.output, expected_sums(case.layer, given), about)
    np.testing.assert_array_equal(ran.reads, counted.reads[..., 0], about)
    np.testing.assert_array_equal(ran.writes, counted.writes[..., 0], about)
    np.testing.assert_array_equal(ran.busiest_reads[:, :2], counted.busiest_reads[:, :2, 0], about)
    np.testing.assert_array_equal(ran.busiest_writes[:, :2], counted.busiest_writes[:, :2, 0], about)
    assert ran.steps == counted.steps[0], about
    np.testing.assert_allclose(ran.read_bits, traffic.reads[..., 0], 1e-12, 1e-9, err_msg=about)
    np.testing.assert_allclose(ran.write_bits, traffic.writes[..., 0], 1e-12, 1e-9, err_msg=about)
    energies = [ran.memory_energy[memory.name] for memory in case.hardware.memories]
    np.testing.assert_allclose(energies, found.memory_energy.sum(axis=1)[:, 0], 1e-12, err_msg=about)
    np.testing.assert_allclose(ran.compute_energy, found.compute_energy[0], 1e-12, err_msg=about)


def test_units_that_skip_two_of_four_read_all_factors_and_add_half_as_often() -> None:
    layer = Layer("fc", "matmul", N=4, K=32, C=32)
    mapping = parse_tree("""\
dram: weight, input, output
  buffer: weight, input, output
    for K in 2
      for C in 16 on rows
        for K in 16 on columns
          registers: weight, output
            for C in 2
              for N in 4
""")
    ran = {}
    for text in ("int8", "int8+2:4"):
        scheme = Scheme.parse(text)
        ran[text] = run(layer, mapping, EDGE, tensors(layer, 0, scheme), scheme)
        found = evaluate(*Nest.of(mapping, layer, EDGE), scheme)
        assert list(ran[text].memory_energy.values()) == pytest.approx(found.memory_energy.sum(axis=(1, 2)))
        assert ran[text].compute_energy == pytest.approx(found.compute_energy[0])
    dense, half = ran["int8"], ran["int8+2:4"]
    np.testing.assert_array_equal(half.read_bits[:, :2], dense.read_bits[:, :2])
    assert dense.write_bits[2, 3] == 32 * layer.macs  # a sum for each product
    assert half.write_bits[2, 3] == 32 * layer.macs / 2


@pytest.mark.parametrize("ten", range(15))
def test_sums_accesses_bits_and_energy_are_those_of_arithmetic_and_of_the_analytic_model(ten: int) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        check(seed)


@pytest.mark.parametrize("ten", range(15))
def test_so_they_are_where_operands_stay_on_the_chip(ten: int) -> None:
    for seed in range(5000 + 10 * ten, 5010 + 10 * ten):
        check(seed, homes=True)


def test_what_has_a_home_on_the_chip_does_not_pass_the_outermost_memory() -> None:
    layer = Layer("conv", "conv2d", K=16, C=16, P=8, Q=8, R=3, S=3, padding=(1, 1, 1, 1))
    mapping = parse_tree("""\
buffer: input, output
  dram: weight
    for K in 2
      buffer: weight
        for P in 8
          for Q in 8
            for C in 16 on rows
              for K in 8 on columns
                registers: weight, output
                  for R in 3
                    for S in 3
""")
    ran = run(layer, mapping, EDGE, tensors(layer, 0))
    assert ran.reads[0].tolist() == [layer.weight_count, 0, 0, 0]
    assert not ran.writes[0].any()
    assert ran.writes[1].tolist() == [layer.weight_count, 0, layer.output_count, 0]


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_sums_accesses_bits_and_energy_are_the_same_on_a_thousand_cases(hundred: int) -> None:
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        check(seed)
        check(seed, homes=True)
