"""Cycles: systolic arrays take those of the closed forms, a skipping unit those of its effectual products."""

from dataclasses import replace

import numpy as np
import pytest

from tersor.hardware import Compute, Datapath, Hardware, Memory
from tersor.hardware.memory import Buses
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tests.targets.accelerator.simulator.layer_cases import expected_sums, run, tensors
from tests.targets.accelerator.simulator.published import systolic_run
from tests.targets.accelerator.test_systolic import FLOWS, closed_form


def test_systolic_arrays_take_the_cycles_of_the_closed_forms() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        m, n, k = (int(size) for size in random.integers(1, 60, 3))
        rows, columns = (int(2**power) for power in random.integers(0, 5, 2))
        for stationary in FLOWS:
            ran, layer, given = systolic_run(stationary, rows, columns, (m, n, k))
            assert ran.cycles == pytest.approx(closed_form(stationary, rows, columns, m, n, k), abs=1e-6)
            np.testing.assert_array_equal(ran.output, expected_sums(layer, given))


def test_a_skipping_unit_takes_a_cycle_for_each_effectual_product() -> None:
    layer = Layer("conv", "conv2d", K=6, C=5, P=4, Q=3, R=2, S=2)
    unit = Hardware(
        "pe", 1e9, (Compute("int8", 1),), (Memory("dram", 1 << 30, 1e30),),
        datapath=Datapath(skips=("weight", "input")),
    )  # fmt: skip
    loops = "".join(f"{'  ' * i}for {d} in {layer.size(d)}\n" for i, d in enumerate("KCPQRS", start=1))
    mapping = parse_tree("dram: weight, input, output\n" + loops)
    given = tensors(layer, 0, zeros=0.4)
    nonzero = replace(
        given,
        input=(given.input != given.zero_point).astype(np.uint8),
        zero_point=0,
    )
    weights = given.weight.decode() != 0  # type: ignore[union-attr]
    windows = np.lib.stride_tricks.sliding_window_view(nonzero.input[0], (2, 2), axis=(1, 2))
    effectual = int(np.einsum("cpqrs,kcrs->", windows.astype(np.int64), weights.astype(np.int64)))
    ran = run(layer, mapping, unit, given)
    assert ran.cycles == ran.products == effectual
    np.testing.assert_array_equal(ran.output, expected_sums(layer, given))
    gated = replace(unit, datapath=Datapath(gates=("weight", "input")))
    assert run(layer, mapping, gated, given).cycles == layer.macs


def test_what_a_bus_carries_is_waited_for_as_if_it_were_a_port() -> None:
    """4 tiles of 8 weights and a scale come over a bus of 4 bits a cycle, each for 40 cycles of steps."""
    layer = Layer("fc", "matmul", N=5, K=4, C=8)
    mapping = parse_tree("""\
dram: weight, input, output
  for K in 4
    buffer: weight
      for N in 5
        for C in 8
""")
    taken = {}
    for buses in (Buses(), Buses(weight=4), Buses(input=4), Buses(output=64)):
        memories = (Memory("dram", 1 << 30, 1e30, buses=buses), Memory("buffer", 1 << 20, 1e30))
        machine = Hardware("toy", 1e9, (Compute("int8", 1),), memories, datapath=Datapath())
        ran = run(layer, mapping, machine, tensors(layer, 0))
        taken[buses] = ran.cycles, ran.stalls
    (free, _), (weights, stalls), (inputs, waits), (sums, _) = taken.values()
    assert free == pytest.approx(4 * 40)
    assert weights == pytest.approx(4 * (24 + 40))
    assert stalls["weight@buffer"] == pytest.approx(4 * 24)
    assert inputs == pytest.approx(2 * 4 * 40), "the units read 8 bits for each product"
    assert waits["dram input bus"] == pytest.approx(4 * 40)
    assert sums == pytest.approx(free), "sums of 32 bits leave and come back on wires of their own"
