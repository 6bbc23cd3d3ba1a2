"""Cycles of one mapping against what is found by hand, and against the closed forms of systolic arrays."""

from dataclasses import replace
from math import ceil

import pytest

from tersor.hardware import Compute, Datapath, Hardware, Memory
from tersor.layer import Layer, Operand
from tersor.loop_tree import parse_tree
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.model import scheduled
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.schedule.schedule import Schedule
from tests.targets.accelerator.test_systolic import FLOWS, array, closed_form

LAYER = Layer("fc", "matmul", N=5, K=8, C=10)
WEIGHTS = """\
dram: weight, input, output
  for K in 8
    buffer: weight
      for N in 5
        for C in 10
"""
OUTPUTS = """\
dram: weight, input, output
  for K in 8
    buffer: output
      for C in 10
        for N in 5
"""


def scheduled_on(
    tree: str, layer: Layer = LAYER, read: float = 1e9, write: float = 1e9, double: bool = False
) -> Schedule:
    """One unit behind a buffer that moves so many bits in a cycle, and a memory that takes no time."""
    buffer = Memory("buffer", 1 << 20, word=1, read_ports=read, write_ports=write, double_buffered=double)
    machine = Hardware(
        "toy", 1e9, (Compute("int8", 1),), (Memory("dram", 1 << 30, 1e30), buffer), datapath=Datapath()
    )
    return scheduled(*Nest.of(parse_tree(tree), layer, machine), INT8)


def test_tiles_of_a_single_place_come_one_after_the_other() -> None:
    """Each of 8 tiles is 10 weights of 8 bits, and worked on for 50 cycles."""
    found = scheduled_on(WEIGHTS, write=2)
    assert found.cycles == pytest.approx(8 * (40 + 50))
    assert found.waits.tolist() == pytest.approx([0, 8 * 40])


def test_with_two_places_the_next_tile_comes_meanwhile() -> None:
    assert scheduled_on(WEIGHTS, write=2, double=True).cycles == pytest.approx(40 + 8 * 50)
    assert scheduled_on(WEIGHTS, write=1, double=True).cycles == pytest.approx(8 * 80 + 50)


def test_sums_leave_at_once_or_meanwhile() -> None:
    """Each of 8 tiles is 5 sums of 32 bits, which are complete outputs only where they arrive."""
    assert scheduled_on(OUTPUTS, read=1e9, write=1e9).cycles == pytest.approx(8 * 50, rel=1e-6)
    # Of 50 additions, 45 read a sum of 32 bits, at 16 a cycle: 2 cycles each. Sums take 10 cycles to leave.
    steps = 5 * 1 + 45 * 2
    assert scheduled_on(OUTPUTS, read=16).cycles == pytest.approx(8 * (steps + 10))
    # Steps take 90 of their 95 cycles of the port: in 5 sums may leave meanwhile, 5 are waited for.
    assert scheduled_on(OUTPUTS, read=16, double=True).cycles == pytest.approx(8 * (90 + 10) + 5, rel=0.01)


def test_a_ragged_last_tile_takes_what_it_has() -> None:
    layer = replace(LAYER, K=7)
    tree = WEIGHTS.replace("K in 8", "K in 3").replace("      for N", "      for K in 3\n        for N")
    tree = tree.replace("        for C", "          for C")
    assert scheduled_on(tree, layer, write=2).cycles == pytest.approx(7 * (40 + 50))
    assert scheduled_on(tree, layer, write=2, double=True).cycles == pytest.approx(3 * 40 + 7 * 50)


def test_a_loop_takes_as_much_longer_for_each_iteration_however_many_there_are() -> None:
    def cycles(filters: int) -> float:
        tree = WEIGHTS.replace("K in 8", f"K in {filters}")
        return scheduled_on(tree, replace(LAYER, K=filters), write=1.7, double=True).cycles

    few, many = cycles(101) - cycles(100), cycles(1_000_001) - cycles(1_000_000)
    assert many == pytest.approx(few, rel=1e-4)
    assert cycles(1_000_000) == pytest.approx(cycles(100) + 999_900 * few)


@pytest.mark.parametrize("stationary", FLOWS)
@pytest.mark.parametrize(
    ("rows", "columns", "m", "n", "k"), [(4, 4, 9, 13, 17), (8, 2, 50, 3, 30), (1, 16, 7, 40, 5)]
)
def test_systolic_arrays_take_the_cycles_of_the_closed_forms(
    stationary: Operand, rows: int, columns: int, m: int, n: int, k: int
) -> None:
    layer = Layer("fc", "matmul", N=m, K=n, C=k)
    machine = array(stationary, rows, columns)
    fast = tuple(replace(memory, bandwidth=1e30) for memory in machine.memories)
    on_rows, on_columns, streamed = FLOWS[stationary]
    loops = (
        Loop(on_rows, ceil(layer.size(on_rows) / rows), "dram"),
        Loop(on_columns, ceil(layer.size(on_columns) / columns), "dram"),
        Loop(on_rows, rows, "rows"),
        Loop(on_columns, columns, "columns"),
        Loop(streamed, layer.size(streamed), "register"),
    )
    keep = (*(Keep(o, "dram") for o in ("weight", "input", "output")), Keep(stationary, "register"))
    found = scheduled(*Nest.of(Mapping(loops, keep), layer, replace(machine, memories=fast)), INT8)
    assert found.cycles == pytest.approx(closed_form(stationary, rows, columns, m, n, k))
