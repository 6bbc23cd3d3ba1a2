"""Layers as a machine might have run them, made by hand."""

from pathlib import Path
from typing import Any

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.machine_run import Agreement, MachineRun
from tersor.mapped_layer import predicted
from tersor.scheme import INT8
from tersor.simulated_layer import SimulatedLayer
from tersor.targets.accelerator.offload.refusals import Refusal
from tersor.targets.accelerator.simulator.result import Event

EDGE = Hardware.load(Path(__file__).parents[1] / "targets" / "machines" / "edge.toml")
DENSE = Layer("fc", "matmul", N=4, K=32, C=32)
TREE = parse_tree("""\
dram: weight, input, output
  buffer: weight, input, output
    for C in 2
      for K in 2
        for C in 16 on rows
          for K in 16 on columns
            registers: output
              for N in 4
""")
EVENTS = (
    Event("input", "buffer", "comes", 0.0, 10.0),
    Event("weight", "buffer", "comes", 10.0, 90.0),
    Event("input", "buffer", "waits", 0.0, 90.0),
    Event("output", "buffer", "leaves", 110.0, 120.0),
)


def on_array(name: str, cycles: float = 120.0, **others: Any) -> SimulatedLayer:
    """A layer that was predicted to take what it should, and waited for its tiles for 100 cycles."""
    at_work = {"compute": cycles - 100.0, "dram": 95.0, "buffer": 20.0, "registers": 10.0}
    fields: dict[str, Any] = {
        "kind": "matmul",
        "scheme": "int8",
        "macs": DENSE.macs,
        "energy": 1000.0,
        "peak": 256.0,
        "utilisation": DENSE.macs / 256.0 / cycles,
        "stalls": {"input@buffer": 90.0, "output@buffer": 10.0},
        "at_work": at_work,
        "energy_by": {"compute": 100.0, "dram": 700.0, "buffer": 150.0, "registers": 50.0},
        "bytes": {"dram": 1280.0, "buffer": 3000.0, "registers": 6000.0},
        "predicted": predicted(DENSE, INT8, TREE, EDGE),
        "listing": "compute",
        "events": EVENTS,
    }
    return SimulatedLayer(name=name, cycles=cycles, **(fields | others))


def by_hand(*layers: SimulatedLayer, outputs: tuple[Agreement, ...] = ()) -> MachineRun:
    """A run of these layers, with a softmax and a rare layer on the CPU."""
    stays = [
        Refusal("softmax.1", "computes in floating point"),
        Refusal("softmax.2", "computes in floating point"),
        Refusal("odd", "needs more than the buffer", 4096),
    ]
    return MachineRun.of("edge", 1, 0.5, layers, stays, outputs)
