"""The vector unit gives the bits of `tersor.arithmetic`, moves each tile once, and overlaps what it can."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tersor import arithmetic
from tersor.hardware import Compute, Hardware, Memory
from tersor.layer import Operand
from tersor.targets.accelerator.isa.vector import Add, AveragePool, MaxPool, Recode, Shape, VectorOperator
from tersor.targets.accelerator.lowering.allocate import Room
from tersor.targets.accelerator.lowering.vector import lower_vector, why_no_vector
from tersor.targets.accelerator.simulator.result import Simulated
from tersor.targets.accelerator.simulator.simulation import simulate
from tersor.targets.accelerator.simulator.tensors import Tensors

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")
Codes = NDArray[np.uint8]
ADD = Add(0.5, 3, 0.25, 0, 128)
CODES = st.integers(0, 255)
WINDOWS = st.tuples(st.integers(1, 3), st.integers(1, 3))
OPERATORS: st.SearchStrategy[VectorOperator] = st.one_of(
    st.builds(Add, st.floats(0.01, 2), st.integers(0, 255), st.floats(0.01, 2), st.just(9), st.just(128)),
    st.builds(Recode, st.floats(0.01, 2), st.integers(0, 255), st.integers(0, 255), st.just((5, 200))),
    st.builds(MaxPool, WINDOWS, WINDOWS, st.tuples(*[st.integers(0, 1)] * 4)),
    st.builds(AveragePool, st.floats(0.01, 1), CODES, CODES, WINDOWS, WINDOWS, st.just((0, 15))),
    st.builds(AveragePool, st.floats(0.01, 1), CODES, CODES, WINDOWS, WINDOWS),
)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(3, 9), st.integers(3, 9))


def machine(size: int, double_buffered: bool) -> Hardware:
    """A memory of `size` bytes, ten times as fast as the one outside, which moves 8 bits in a cycle."""
    buffer = Memory("buffer", size, 1e10, double_buffered=double_buffered)
    return Hardware("toy", 1e9, (Compute("int8", 1),), (Memory("dram", 1 << 20, 1e9), buffer))


def run(
    operator: VectorOperator, shape: Shape, hardware: Hardware, room: Room | None = None
) -> tuple[Simulated, Codes]:
    """What came out, and what should."""
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 256, shape).astype(np.uint8) for _ in range(2))
    program = lower_vector("it", operator, shape, hardware, room)
    return simulate(program, hardware, Tensors(a, 0, b)), expected(operator, a, b)


def expected(operator: VectorOperator, a: Codes, b: Codes) -> Codes:
    match operator:
        case Add(left, left_zero, right, right_zero, zero_point, bounds):
            return arithmetic.add(a, left, left_zero, b, right, right_zero, zero_point, bounds)
        case Recode(multiplier, in_zero_point, zero_point, bounds):
            return arithmetic.rescale(a, multiplier, in_zero_point, zero_point, bounds)
        case AveragePool(multiplier, in_zero_point, zero_point, kernel, stride, bounds):
            return arithmetic.average_pool(a, multiplier, in_zero_point, zero_point, kernel, stride, bounds)
        case MaxPool(kernel, stride, padding):
            return arithmetic.max_pool(a, kernel, stride, padding)


@settings(deadline=None)
@given(OPERATORS, SHAPES, st.integers(60, 4000), st.booleans())
def test_every_operator_gives_the_bits_of_the_arithmetic(
    operator: VectorOperator, shape: Shape, size: int, double_buffered: bool
) -> None:
    hardware = machine(size, double_buffered)
    if why_no_vector("it", operator, shape, hardware):
        return
    ran, output = run(operator, shape, hardware)
    np.testing.assert_array_equal(ran.output, output)
    dram, buffer = ran.reads
    assert ran.writes[0].tolist() == [0, 0, output.size, 0]
    assert ran.writes[1].sum() == dram.sum() + output.size
    assert buffer.tolist() == (ran.writes[1]).tolist()  # each tile is read once, and each output leaves once
    moved = dram.sum() + output.size
    assert ran.cycles >= moved * (1 - 1e-9)  # at 8 bits a cycle outside
    assert sum(ran.stalls.values()) <= ran.cycles * (1 + 1e-9)


def test_a_sum_reads_both_tensors_once_and_waits_for_the_outermost_memory() -> None:
    shape = (1, 64, 56, 56)
    ran, output = run(ADD, shape, EDGE)
    np.testing.assert_array_equal(ran.output, output)
    assert ran.reads[0].tolist() == [output.size, output.size, 0, 0]
    at_least = 3 * output.size / 12.8  # bytes that DRAM moves in a cycle
    assert at_least <= ran.cycles <= 1.1 * at_least
    assert {event.kind for event in ran.events} == {"comes", "leaves", "waits"}
    assert ran.energy == pytest.approx(output.size * (3 * 160 + 6 * 12.5))


@settings(deadline=None)
@given(OPERATORS, SHAPES, st.sets(st.sampled_from(("input", "output")), min_size=1))
def test_what_stays_on_the_chip_is_not_moved_there_or_away(
    operator: VectorOperator, shape: Shape, on_chip: set[Operand]
) -> None:
    hardware = machine(8000, double_buffered=True)
    room = Room(1, 4000, 8000, {operand: 2000 * place for place, operand in enumerate(sorted(on_chip))})
    if why_no_vector("it", operator, shape, hardware, room):
        return
    ran, output = run(operator, shape, hardware, room)
    np.testing.assert_array_equal(ran.output, output)
    other = isinstance(operator, Add) * output.size
    dram_reads, dram_writes = ran.reads[0].tolist(), ran.writes[0].tolist()
    assert (dram_reads[0], dram_reads[1] == 0) == (other, "input" in on_chip)
    assert dram_writes == [0, 0, 0 if "output" in on_chip else output.size, 0]
    assert ran.writes[1].tolist() == [other, dram_reads[1], output.size, 0]
    read = ran.reads[1].tolist()
    assert (read[0], read[2]) == (other, dram_writes[2])
    assert read[1] >= output.size if isinstance(operator, Add | Recode) else read[1] > 0


def test_a_chip_without_room_for_a_row_beside_what_stays_is_said_to_be_so() -> None:
    room = Room(1, 0, 100, {"input": 100})
    reason = why_no_vector("it", ADD, (1, 4, 9, 60), machine(4000, False), room)
    assert reason == "the rows of it need 120 bytes in buffer; it has 100"


def test_two_places_hide_the_unit_behind_what_comes() -> None:
    single, _ = run(MaxPool((3, 3), (1, 1)), (1, 16, 12, 12), machine(4000, False))
    double, _ = run(MaxPool((3, 3), (1, 1)), (1, 16, 12, 12), machine(4000, True))
    assert double.cycles < single.cycles
    assert double.reads.tolist() == single.reads.tolist()


def test_tensors_of_another_size_are_refused() -> None:
    program = lower_vector("it", ADD, (1, 2, 3, 3), EDGE)
    codes = np.zeros((1, 2, 3, 4), np.uint8)
    with pytest.raises(
        ValueError, match=r"it: the input is uint8 codes \[1, 2, 3, 3\], got uint8 \[1, 2, 3, 4\]"
    ):
        simulate(program, EDGE, Tensors(codes, 0, codes))
