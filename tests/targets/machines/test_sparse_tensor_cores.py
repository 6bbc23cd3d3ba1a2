"""Tensor cores that leave zeros out, against Sparseloop's case study (MICRO 2022, figure 15): int8 ResNet-50.

Its GEMM is [M, K] by [K, N], the weights first. It counts the cycles of the slowest level as if nothing had
to be waited for at the beginning and the end; the model's own total has these waits as well.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import Scheme
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest

ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "sparse_tensor_core.json").read_text())
CORE = Hardware.load(ROOT / "targets" / "machines" / "sparse_tensor_core.toml")
FLEXIBLE = Hardware.load(ROOT / "targets" / "machines" / "sparse_tensor_core_flexible.toml")


def steady_cycles(m: int, k: int, n: int, scheme: str, hardware: Hardware) -> float:
    """Cycles of the array or of the busiest memory, with the mapping that the artifact found."""
    layer = Layer("gemm", "matmul", N=n, K=m, C=k)
    mapping = parse_tree(f"""\
dram: weight, input, output
  for N in {n // 128}
    smem: input
      for K in {m // 64}
        smem: weight
          for K in 4 on parts
            rf: output
              for C in {k // 16}
                for K in 16 on columns
                  for C in 16 on rows
                    lrf: weight
                      for N in 128
""")
    assert why_not(layer, Scheme.parse(scheme), mapping, hardware) is None
    found = evaluate(*Nest.of(mapping, layer, hardware), Scheme.parse(scheme))
    slowest = float(found.latency.compute[0])
    for level, memory in enumerate(hardware.memories):
        reads, writes = (
            float(bits[level].sum()) for bits in (found.traffic.busiest_reads, found.traffic.busiest_writes)
        )
        slowest = max(slowest, hardware.clock * reads / 8 / hardware.read_bandwidth(memory))
        slowest = max(slowest, hardware.clock * writes / 8 / hardware.write_bandwidth(memory))
    assert found.cycles[0] >= slowest
    return slowest


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=str)
def test_a_sparse_tensor_core_takes_the_published_cycles(row: list[int]) -> None:
    m, k, n, dense, sparse = row
    assert steady_cycles(m, k, n, "int8", CORE) == dense
    assert steady_cycles(m, k, n, "int8+2:4", CORE) == pytest.approx(sparse, rel=1e-12)


def test_shared_memory_is_as_fast_as_two_of_four_needs() -> None:
    """32 inputs, 8 weights and 8 places of 2 bits in a cycle: 42 bytes; with one less it is waited for."""
    memories = tuple(replace(each, read_ports=41) if each.name == "smem" else each for each in CORE.memories)
    cycles = steady_cycles(128, 1152, 1024, "int8+2:4", replace(CORE, memories=memories))
    assert cycles == pytest.approx(73728 * 42 / 41)


@pytest.mark.parametrize("row", GOLDEN["flexible"], ids=str)
def test_a_flexible_pattern_is_bound_by_the_bandwidth_for_two_of_four(row: list) -> None:
    """A third or a quarter of the weights asks for 48 or 64 inputs in a cycle: the peak is out of reach."""
    m, k, n, pattern, published = row
    cycles = steady_cycles(m, k, n, f"int8+{pattern}", FLEXIBLE)
    assert cycles == pytest.approx(published, rel=1e-4)
    numerator, denominator = map(int, pattern.split(":"))
    assert cycles > 1.3 * m * k * n / 1024 * numerator / denominator


def test_wider_places_cost_the_flexible_core_some_of_two_of_four() -> None:
    """The artifact gives 2:4 places of 2 bits here, too, and 147456 / 2 cycles; a memory has one format."""
    assert steady_cycles(128, 1152, 1024, "int8+2:4", FLEXIBLE) == pytest.approx(73728 * (32 + 12) / 42)
