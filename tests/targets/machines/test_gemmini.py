"""A Gemmini keeps weights or sums in its units, as a mapping says (Genc et al., DAC 2021)."""

from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import INT8
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest

MACHINE = Hardware.load(Path(__file__).parents[3] / "targets" / "machines" / "gemmini.toml")
LAYER = Layer("fc", "matmul", N=256, K=256, C=256)


def tree(dataflow: str) -> str:
    if dataflow == "weight-stationary":
        outer, rows, kept, inner = ("K", "C"), "C", "weight", "N"
    else:
        outer, rows, kept, inner = ("N", "K"), "N", "output", "C"
    lines = ["dram: weight, input, output", "scratchpad: weight, input", "accumulator: output"]
    lines += [f"for {dim} in 16" for dim in outer]
    lines += [f"for {rows} in 16 on rows", "for K in 16 on columns", f"unit: {kept}", f"for {inner} in 256"]
    return "\n".join("  " * depth + line for depth, line in enumerate(lines)) + "\n"


@pytest.mark.parametrize("dataflow", ["weight-stationary", "output-stationary"])
def test_both_dataflows_use_every_unit_in_every_cycle(dataflow: str) -> None:
    mapping = parse_tree(tree(dataflow))
    assert mapping.dataflow(("rows", "columns")) == dataflow
    found = evaluate(*Nest.of(mapping, LAYER, MACHINE), INT8)
    assert found.latency.compute[0] == LAYER.macs / 256
    names = [memory.name for memory in MACHINE.memories]
    for name in ("unit", "accumulator", "scratchpad"):
        assert found.latency.added[names.index(name), 0] <= 0.3 * found.latency.compute[0], name


def test_sums_do_not_fit_the_accumulator_with_both_of_its_halves_full() -> None:
    """256 x 256 sums of 32 bits are 256 KiB; only half of 64 KiB is there for one tile."""
    assert "the tiles in accumulator need 524288 bytes, two of each" in (
        why_not(LAYER, INT8, parse_tree(tree("weight-stationary")), MACHINE) or ""
    )
