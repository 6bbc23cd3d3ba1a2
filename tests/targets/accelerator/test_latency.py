"""Memories whose tiles come one after the other, meanwhile, or anew in each pass; buses between them."""

from dataclasses import replace

import pytest

from tersor.hardware import Compute, Datapath, Hardware, Memory
from tersor.hardware.memory import Buses
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import Scheme
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.model import Evaluation, evaluate
from tersor.targets.accelerator.nest import Nest

W8 = Scheme.parse("w8a8")
# A row of 10 outputs for each of 4 filters of 3 taps: 4 passes, of which each takes 3 weights.
LAYER = Layer("conv", "conv2d", K=4, Q=10, S=3)
TREE = """\
dram: weight, input, output
  for K in 4
    weights: weight
      for Q in 10
        window: input
          for S in 3
"""


def machine(buses: Buses | None = None, streams: bool = False, double_buffered: bool = False) -> Hardware:
    """One unit at 1 GHz behind memories that are as fast as needed; of the window's, how its tiles come."""
    window = Memory("window", 3, 1e12, keeps=("input",), halo_reuse=True)
    return Hardware(
        "toy",
        1e9,
        (Compute("int8", 1),),
        (
            Memory("dram", 1 << 20, 1e12, buses=buses or Buses()),
            Memory("weights", 3, 1e12, keeps=("weight",)),
            replace(window, streams=streams, double_buffered=double_buffered),
        ),
        datapath=Datapath(),
    )


def evaluated(hardware: Hardware) -> Evaluation:
    return evaluate(*Nest.of(parse_tree(TREE), LAYER, hardware), W8)


def test_a_bus_carries_one_operand_while_others_have_their_own() -> None:
    def added(**widths: float) -> float:
        return float(evaluated(machine(Buses(**widths), streams=True)).latency.added.sum())

    assert added() < 1
    # Four times 3 weights and their scales of 32 bits each, at 1 bit, in turn with the products.
    assert added(weight=1) == pytest.approx(4 * (3 * 8 + 32), rel=0.02)
    # The first 3 inputs of each pass at 4 bits; the others come while 3 products are made of each.
    assert added(input=4) == pytest.approx(4 * 3 * 2, rel=0.02)
    assert added(weight=1, input=4) == pytest.approx(added(weight=1) + added(input=4), rel=0.02)
    # 10 outputs of a pass cannot leave faster than in 80 cycles; 30 products are made meanwhile.
    assert added(output=1) == pytest.approx(sums_of_dram(evaluated(machine(streams=True))) - 4 * 30, rel=0.02)


def sums_of_dram(found: Evaluation) -> float:
    """Bits of sums that the outermost memory takes: the units have none of their own."""
    return float(found.traffic.busiest_writes[0, 2:, 0].sum())


def test_what_streams_needs_one_tile_and_what_is_double_buffered_two() -> None:
    mapping = parse_tree(TREE)
    assert why_not(LAYER, W8, mapping, machine(streams=True)) is None
    assert "two of each" in (why_not(LAYER, W8, mapping, machine(double_buffered=True)) or "")
    fast = Buses(input=4)
    streaming, double = evaluated(machine(fast, streams=True)), evaluated(machine(fast, double_buffered=True))
    assert streaming.cycles[0] == double.cycles[0]


def test_nothing_works_ahead_of_weights_that_come_in_turn() -> None:
    """Each pass waits for its first window again, unless weights come ahead as well."""
    bus = Buses(input=4)
    in_turn = machine(bus, streams=True)
    ahead = replace(
        in_turn, memories=tuple(replace(memory, streams=memory.name != "dram") for memory in in_turn.memories)
    )
    assert evaluated(in_turn).latency.added[2, 0] == pytest.approx(4 * 3 * 8 / 4, rel=0.02)
    assert evaluated(ahead).latency.added[2, 0] == pytest.approx(3 * 8 / 4, rel=0.02)
    alone = machine(bus)
    assert evaluated(alone).latency.added[2, 0] == pytest.approx(4 * 12 * 8 / 4, rel=0.02), "all 12 inputs"
