"""Events: what a timeline shows of the transfers from and to the outermost memory."""

from collections import Counter
from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.targets.accelerator.simulator.result import Simulated
from tersor.targets.accelerator.simulator.state import MOST_EVENTS
from tests.targets.accelerator.simulator.layer_cases import run, tensors

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")
DENSE = Layer("fc", "matmul", N=16, K=32, C=64)


def simulated(layer: Layer, tree: str) -> Simulated:
    return run(layer, parse_tree(tree), EDGE, tensors(layer, 0))


def test_each_tile_comes_or_leaves_once_and_what_is_waited_for_adds_up_to_the_stalls() -> None:
    ran = simulated(
        DENSE,
        """\
dram: weight, input, output
  for K in 2
    buffer: output
      for N in 4
        buffer: input
          for C in 4
            for C in 16 on rows
              for K in 16 on columns
                registers: weight, output
                  for N in 4
""",
    )
    seen = Counter((event.operand, event.memory, event.kind) for event in ran.events if event.kind != "waits")
    assert seen == {
        ("weight", "registers", "comes"): 2 * 4 * 4,
        ("input", "buffer", "comes"): 2 * 4,
        ("output", "buffer", "leaves"): 2,
    }
    assert all(0 <= event.begin < event.end <= ran.cycles * (1 + 1e-9) for event in ran.events)
    waits: Counter[str] = Counter()
    for event in ran.events:
        if event.kind == "waits":
            waits[f"{event.operand}@{event.memory}"] += event.end - event.begin  # type: ignore[assignment]
    assert dict(waits) == pytest.approx({name: ran.stalls[name] for name in waits})
    assert waits.keys() == {
        name for name in ran.stalls if name in ("weight@registers", "input@buffer", "output@buffer")
    }


def test_there_is_room_for_the_first_of_each_operand() -> None:
    ran = simulated(
        Layer("fc", "matmul", N=4, K=32, C=1024),
        """\
dram: weight, input, output
  buffer: input, output
    for N in 4
      for K in 2
        for C in 64
          for C in 16 on rows
            for K in 16 on columns
              registers: weight, output
""",
    )
    seen = Counter(event.operand for event in ran.events)
    assert seen["weight"] == MOST_EVENTS
    assert seen["input"] == 1
