from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.hardware import Compute, Hardware, Memory
from tersor.layer import Layer
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.sparsity import NM
from tersor.targets.accelerator.roofline import estimate, why_not

MACHINE = Hardware(
    name="machine",
    clock=1e9,
    compute=(
        Compute("int8", 100, skips=(NM(2, 4),), energy_per_mac=0.5, source="assumed"),
        Compute("fp32", 10, energy_per_mac=5.0, source="assumed"),
    ),
    memories=(
        Memory("dram", 1 << 30, 10e9, energy_per_byte=100.0, source="assumed"),
        Memory("buffer", 1 << 20, 1000e9, energy_per_byte=10.0, source="assumed"),
    ),
)
VECTOR_TIMES_MATRIX = Layer("fc", "matmul", N=1, K=1000, C=2000)
CONVOLUTION = Layer("conv", "conv2d", K=256, C=256, P=56, Q=56, R=3, S=3, padding=(1, 1, 1, 1))
SPARSE = Scheme.parse("int8+2:4")


def test_a_vector_times_a_matrix_takes_the_time_of_its_weights_from_dram() -> None:
    weights, scales, bias = 2_000_000, 4_000, 4_000
    moved = weights + scales + 2000 + 1000
    cost = estimate(VECTOR_TIMES_MATRIX, INT8, MACHINE)
    assert cost.seconds == pytest.approx(moved / 10e9)
    assert cost.traffic == {"dram": moved, "buffer": moved}
    assert cost.energy == pytest.approx(2_000_000 * 0.5 + moved * (100 + 10))
    assert cost.size == weights + scales + bias
    assert cost.peak_memory == 3000


def test_a_large_convolution_takes_the_time_of_its_products() -> None:
    macs = 56 * 56 * 256 * 256 * 9
    assert estimate(CONVOLUTION, INT8, MACHINE).seconds == pytest.approx(macs / 100 / 1e9)
    assert estimate(CONVOLUTION, FP32, MACHINE).seconds == pytest.approx(macs / 10 / 1e9)


def test_two_of_four_halves_the_compute_time_where_it_is_skipped() -> None:
    dense, sparse = (estimate(CONVOLUTION, scheme, MACHINE).seconds for scheme in (INT8, SPARSE))
    assert sparse == pytest.approx(dense / 2)
    one_of_four = estimate(CONVOLUTION, Scheme.parse("int8+1:4"), MACHINE).seconds
    assert one_of_four == pytest.approx(dense), "a pattern the unit does not skip is multiplied"


def test_two_of_four_saves_three_eighths_of_the_bytes_two_positions_of_two_bits_included() -> None:
    dense, sparse = (estimate(VECTOR_TIMES_MATRIX, scheme, MACHINE) for scheme in (INT8, SPARSE))
    assert dense.size - sparse.size == 2_000_000 * 3 // 8


def test_a_low_rank_layer_is_two_layers_in_sequence() -> None:
    layer = Layer("fc", "matmul", N=4096, K=512, C=512)
    cost = estimate(layer, Scheme.parse("int8+rank64"), MACHINE)
    assert cost.seconds == pytest.approx(4096 * 64 * (512 + 512) / 100 / 1e9)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_no_layer_beats_the_arithmetic_or_the_memory(n: int, k: int, c: int) -> None:
    layer = Layer("fc", "matmul", N=n, K=k, C=c)
    cost = estimate(layer, INT8, MACHINE)
    assert cost.seconds >= layer.macs / 100 / 1e9
    assert cost.seconds >= cost.traffic["dram"] / 10e9


@pytest.mark.parametrize(
    ("layer", "scheme", "reason"),
    [
        (VECTOR_TIMES_MATRIX, "int4", "machine computes in int8, fp32, not in int4"),
        (VECTOR_TIMES_MATRIX, "int8+dynamic", "machine finds no ranges while it runs"),
        (Layer("fc", "matmul", K=8, C=10), "int8+2:4", "a multiple of 4 input channels, got 10"),
        (Layer("attention", "matmul", K=8, C=8, weight_bearing=False), "int8+2:4", "no weight to prune"),
        (Layer("attention", "matmul", K=8, C=8, weight_bearing=False), "int8+rank2", "no weight to factor"),
        (
            Layer("fc", "matmul", K=1 << 16, C=1 << 16),
            "int8",
            "fc needs 4295360512 bytes, dram of machine has",
        ),
    ],
)
def test_what_a_machine_cannot_run_has_a_reason(layer: Layer, scheme: str, reason: str) -> None:
    assert reason in (why_not(layer, Scheme.parse(scheme), MACHINE) or "")
    with pytest.raises(ValueError, match=reason):
        estimate(layer, Scheme.parse(scheme), MACHINE)


def test_of_a_table_only_the_rows_that_are_looked_up_move() -> None:
    layer = Layer("table", "gather", N=2, K=16, C=1000)
    indices, rows = 2 * 4, 2 * 16 * 4
    assert estimate(layer, FP32, MACHINE).traffic["dram"] == indices + 2 * rows
    assert estimate(layer, W8A32, MACHINE).traffic["dram"] == indices + 2 * (16 + 4) + rows


def test_edge_runs_what_the_scheduler_proposes() -> None:
    edge = Hardware.load(Path(__file__).parents[3] / "targets" / "machines" / "edge.toml")
    fastest = [
        estimate(CONVOLUTION, Scheme.parse(text), edge).seconds for text in ("fp32", "int8", "int8+2:4")
    ]
    assert fastest == sorted(fastest, reverse=True)
