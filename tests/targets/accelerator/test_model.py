import re
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory, Representation
from tersor.hardware.memory import Formats
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.mapping import Mapping
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.legality import fits, why_not
from tersor.targets.accelerator.model import Evaluation, estimate, evaluate, scheduled
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.tiny_cases import tiny_case

GOLDEN = Path(__file__).parents[2] / "golden"
EDGE = Hardware.load(Path(__file__).parents[3] / "targets" / "machines" / "edge.toml")
LAYER = Layer("fc", "matmul", N=64, K=64, C=64)
TREE = """\
dram: weight, input, output
  for K in 4
    buffer: weight, input, output
      for N in 64
        for C in 4
          for C in 16 on rows
            for K in 16 on columns
"""


def machine(buffer: int = 1 << 20, bandwidth: float = 1e12, double_buffered: bool = False) -> Hardware:
    """256 units between which sums add up, 1 byte a nanosecond and cycle for each GB/s."""
    return Hardware(
        "toy",
        1e9,
        (Compute("int8", 256, energy_per_mac=0.5, source="assumed"),),
        (
            Memory("dram", 1 << 30, bandwidth, 100.0, "assumed"),
            Memory("buffer", buffer, 1e12, 10.0, "assumed", double_buffered=double_buffered),
        ),
        axes=(
            Axis("rows", 16, "buffer", ("C",), reduces=True),
            Axis("columns", 16, "buffer", ("K",), multicast=("input",)),
        ),
        datapath=Datapath(),
    )


def evaluated(
    hardware: Hardware, scheme: Scheme = INT8, densities: Densities = DENSE, tree: str = TREE
) -> Evaluation:
    return evaluate(*Nest.of(parse_tree(tree), LAYER, hardware), scheme, densities)


def test_where_memories_are_fast_the_array_takes_its_steps() -> None:
    found = evaluated(machine(bandwidth=1e30))
    assert found.latency.compute[0] == 64**3 / 256
    assert found.compute_energy[0] == 64**3 * 0.5


def test_a_slow_memory_is_waited_for_in_turn_or_meanwhile() -> None:
    in_turn = evaluated(machine(bandwidth=1e9)).cycles[0]
    meanwhile = evaluated(machine(bandwidth=1e9, double_buffered=True)).cycles[0]
    moved = 64 * 64 * 3 + 4 * 64  # weights with their scales, inputs, outputs: at 1 byte in a cycle
    assert in_turn == pytest.approx(64**3 / 256 + moved)
    assert meanwhile == pytest.approx(moved + 64**3 / 256 / 4), (
        "all tiles come, and the last one is worked on"
    )


def test_an_output_is_written_as_wide_as_what_reads_it() -> None:
    nest, sizes = Nest.of(parse_tree(TREE), LAYER, machine())
    four = Scheme.parse("int4")
    written = {
        bits: float(evaluate(nest, sizes, four, output_bits=bits).traffic.writes[0].sum()) / 64**2
        for bits in (None, 4, 8)
    }
    assert written == {None: 4, 4: 4, 8: 8}


@given(st.integers(0, 400))
@settings(deadline=None, max_examples=60)
def test_the_parts_sum_up_to_the_total(seed: int) -> None:
    case = tiny_case(seed)
    hardware = replace(
        case.hardware,
        memories=tuple(
            replace(memory, energy_per_byte=3.0 + i, write_energy_per_byte=5.0 + i, source="assumed")
            for i, memory in enumerate(case.hardware.memories)
        ),
    )
    nest, sizes = Nest.of(case.mapping, case.layer, hardware)
    found = evaluate(nest, sizes, INT8)
    cost = estimate(case.layer, INT8, case.mapping, hardware)
    assert found.energy[0] == pytest.approx(found.memory_energy[..., 0].sum() + found.compute_energy[0])
    assert (found.latency.added >= 0).all()
    assert found.cycles[0] == pytest.approx(found.latency.compute[0] + found.latency.added[:, 0].sum())
    timed = scheduled(nest, sizes, INT8)
    assert cost.seconds * hardware.clock == pytest.approx(timed.cycles)
    assert (timed.waits >= 0).all()
    assert timed.cycles == pytest.approx(found.latency.compute[0] + timed.waits.sum())
    by_hand = sum(
        (
            found.traffic.reads[i, :, 0].sum() * m.energy_per_byte
            + found.traffic.writes[i, :, 0].sum() * m.write_energy
        )
        / 8
        for i, m in enumerate(hardware.memories)
    )
    assert cost.energy == pytest.approx(by_hand)
    assert sum(cost.traffic.values()) == pytest.approx(
        (found.traffic.reads + found.traffic.writes)[..., 0].sum() / 8
    )


@pytest.mark.parametrize(
    ("layer", "scheme", "hardware", "reason"),
    [
        (LAYER, FP32, machine(), "toy computes in int8, not in fp32"),
        (LAYER, Scheme.parse("w16a16"), machine(), "toy computes in int8, not in int16"),
        (replace(LAYER, operator="gather"), INT8, machine(), "it has no loops to map"),
        (LAYER, INT8, replace(machine(), operators=("conv2d",)), "toy runs conv2d, not matmul"),
        (LAYER, Scheme.parse("int8+rank4"), machine(), "map each of them"),
        (replace(LAYER, C=65), INT8, machine(), "the loops over C make 64 iterations, the layer 'fc' has 65"),
        # Weights [64, 16], inputs [64, 64], sums [64, 16] of 32 bits.
        (LAYER, INT8, machine(9000), "the tiles in buffer need 9216 bytes; it has 9000"),
        (LAYER, INT8, machine(9216), None),
        (
            LAYER,
            INT8,
            machine(9216, double_buffered=True),
            "the tiles in buffer need 18432 bytes, two of each as it is double buffered; it has 9216",
        ),
    ],
)
def test_what_cannot_be_run_has_its_reason(
    layer: Layer, scheme: Scheme, hardware: Hardware, reason: str | None
) -> None:
    found = why_not(layer, scheme, parse_tree(TREE), hardware)
    assert (found is None) if reason is None else (reason in (found or ""))
    if reason:
        with pytest.raises(ValueError, match=re.escape(reason)):
            estimate(layer, scheme, parse_tree(TREE), hardware)


def test_many_mappings_are_marked_that_fit() -> None:
    nest, sizes = Nest.of(parse_tree(TREE), LAYER, machine(9000))
    many = np.repeat(sizes, 2, axis=1)
    many[1, 1] = 32
    assert list(fits(nest, evaluate(nest, many, INT8).needed)) == [False, True]


def test_an_evaluation_among_many_takes_few_microseconds() -> None:
    nest, sizes = Nest.of(parse_tree(TREE), LAYER, machine(double_buffered=True))
    many = np.repeat(sizes, 4000, axis=1)
    evaluate(nest, many, INT8)
    start = process_time()
    evaluate(nest, many, INT8)
    assert (process_time() - start) / 4000 < 20e-6


@pytest.mark.parametrize(
    ("word", "plateaus"),
    [(8, [(5, 6, 7, 8)]), (16, [(6, 7, 8)])],
)
def test_bits_that_pack_alike_take_equal_energy(word: int, plateaus: list[tuple[int, ...]]) -> None:
    memories = tuple(replace(memory, word=word) for memory in machine().memories)
    # Scales and tables do not depend on the bits, the codes do.
    energies = {
        bits: evaluated(replace(machine(), memories=memories), Scheme.parse(f"w{bits}a8"))
        .memory_energy[:, 0]
        .sum()
        for bits in range(2, 9)
    }
    for plateau in plateaus:
        assert len({round(energies[bits]) for bits in plateau}) == 1
        assert energies[plateau[0] - 1] < energies[plateau[0]]


def test_fewer_bits_are_fewer_cycles_where_the_datapath_is_built_for_it() -> None:
    def cycles(mode: str, scheme: str) -> float:
        datapath = Datapath(mode, word=8)  # type: ignore[arg-type]
        return float(
            evaluated(replace(machine(), datapath=datapath), Scheme.parse(scheme)).latency.compute[0]
        )

    dense = 64**3 / 256
    assert [cycles("fixed", each) for each in ("int8", "int4", "w2a8")] == [dense, dense, dense]
    assert [cycles("packed", each) for each in ("int8", "w4a8", "int4", "int2")] == [
        dense,
        dense,
        dense / 2,
        dense / 4,
    ]
    assert [cycles("bit_serial", each) for each in ("int8", "w8a4", "w4a8")] == [dense, dense / 2, dense]
    assert [cycles("bit_brick", each) for each in ("int8", "w6a6", "w4a8", "int4", "int2")] == [
        dense, dense, dense / 2, dense / 4, dense / 16,
    ]  # fmt: skip


def test_two_of_four_halves_cycles_and_products_where_it_is_skipped() -> None:
    sparse = Scheme.parse("int8+2:4")
    skipping = replace(machine(), compute=(replace(machine().compute[0], skips=(sparse.sparsity,)),))  # type: ignore[arg-type]
    dense, half = evaluated(skipping), evaluated(skipping, sparse)
    assert half.latency.compute[0] == dense.latency.compute[0] / 2
    assert half.compute_energy[0] == dense.compute_energy[0] / 2
    assert evaluated(machine(), sparse).latency.compute[0] == dense.latency.compute[0]


@given(st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_gating_never_changes_cycles_and_skipping_never_adds_any(weight: float, input: float) -> None:
    densities = Densities(weight, input)
    dense = evaluated(machine())
    for operands in ((), ("weight",), ("input",), ("weight", "input")):
        gated = evaluated(replace(machine(), datapath=Datapath(gates=operands)), densities=densities)
        skipped = evaluated(replace(machine(), datapath=Datapath(skips=operands)), densities=densities)
        assert gated.latency.compute[0] == dense.latency.compute[0]
        alone = dense.latency.compute[0] * densities.products(operands)  # if none waited for another
        most = dense.latency.compute[0] * (1 + 1e-9)
        assert alone * (1 - 1e-9) - 1e-99 <= skipped.latency.compute[0] <= most
        assert gated.energy[0] == pytest.approx(skipped.energy[0])
        assert gated.energy[0] <= dense.energy[0] * (1 + 1e-12)


def format_machine(form: str, **zeros: tuple[str, ...]) -> Hardware:
    """One unit, weights of 16 bits in a memory of 20 bits a cycle, 14 bits of coordinate (128 x 128)."""
    formats = Formats(weight=Representation.parse(form))
    weights = Memory("weights", 1 << 20, 2.5e9, 1.0, "assumed", keeps=("weight",), formats=formats)
    others = Memory("others", 1 << 20, 1e12, 1.0, "assumed", keeps=("input", "output"))
    compute = (Compute("int16", 1, energy_per_mac=1.0, source="assumed"),)
    dram = Memory("dram", 1 << 30, 1e12)
    return Hardware("one", 1e9, compute, (dram, weights, others), datapath=Datapath(word=16, **zeros))  # type: ignore[arg-type]


def test_a_bitmask_with_gating_and_coordinates_with_skipping_cross_over() -> None:
    """As in the sparse formats of Sparseloop (MICRO 2022, figure 1): each pays off at other densities."""
    layer = Layer("fc", "matmul", N=128, K=128, C=128)
    tree = (
        "dram: weight, input, output\n  weights: weight\n    others: input, output\n"
        "      for N in 128\n        for K in 128\n          for C in 128\n"
    )

    def run(hardware: Hardware, density: float) -> Evaluation:
        nest, sizes = Nest.of(parse_tree(tree), layer, hardware)
        return evaluate(nest, sizes, Scheme.parse("w16a16"), Densities(weight=density))

    gating, skipping = (
        format_machine("bitmask", gates=("weight",)),
        format_machine("coordinate14", skips=("weight",)),
    )
    results = {d: (run(gating, d), run(skipping, d)) for d in (0.01, 0.02, 0.04, 0.08, 0.1, 0.2, 0.4, 0.8)}
    assert len({round(float(gated.latency.compute[0])) for gated, _ in results.values()}) == 1
    less_energy = {d: bool(s.energy[0] < g.energy[0]) for d, (g, s) in results.items()}
    fewer_cycles = {d: bool(s.cycles[0] < g.cycles[0]) for d, (g, s) in results.items()}
    assert [d for d, less in less_energy.items() if less] == [0.01, 0.02, 0.04]
    assert [d for d, fewer in fewer_cycles.items() if fewer] == [0.01, 0.02, 0.04, 0.08, 0.1, 0.2, 0.4]


def test_edge_runs_a_layer_at_its_peak_and_is_faster_with_fewer_bits() -> None:
    tree = """\
dram: weight, input, output
  buffer: weight, input, output
    for N in 16
      for K in 4
        for C in 4
          for C in 16 on rows
            for K in 16 on columns
              registers: weight, output
                for N in 4
"""
    mapping: Mapping = parse_tree(tree)
    assert why_not(LAYER, INT8, mapping, EDGE) is None
    cycles = {
        text: float(evaluate(*Nest.of(mapping, LAYER, EDGE), Scheme.parse(text)).latency.compute[0])
        for text in ("int8", "int4", "int8+2:4", "fp32")
    }
    peak = 64**3 / 256
    assert cycles == {"int8": peak, "int4": peak / 2, "int8+2:4": peak / 2, "fp32": peak * 16}
