"""Operators of the vector unit stream their tensors through the chip, whatever their size."""

from collections import Counter, defaultdict
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.hardware import Compute, Hardware, Memory
from tersor.targets.accelerator.isa.instruction import Apply, Load, Store
from tersor.targets.accelerator.isa.vector import Add, AveragePool, MaxPool, Recode, Shape, VectorOperator
from tersor.targets.accelerator.lowering.vector import lower_vector, why_no_vector
from tests.targets.accelerator.lowering.walk import check_balance, element_of, tiles, walk

ADD = Add(0.5, 3, 0.25, 0, 128)
POOL = MaxPool((3, 3), (2, 2), (1, 1, 1, 1))


def machine(size: int, double_buffered: bool = True, dram: int = 1 << 20) -> Hardware:
    """A memory of `size` bytes, and one inside of it that nothing can stream through."""
    memories = (
        Memory("dram", dram, 1e9),
        Memory("buffer", size, 1e10, double_buffered=double_buffered),
        Memory("registers", 64, 1e10, keeps=("weight", "output")),
    )
    return Hardware("toy", 1e9, (Compute("int8", 1),), memories)


WINDOWS = st.tuples(st.integers(1, 3), st.integers(1, 3))
OPERATORS: st.SearchStrategy[VectorOperator] = st.one_of(
    st.just(ADD),
    st.just(Recode(0.7, 1, 2)),
    st.builds(MaxPool, WINDOWS, WINDOWS, st.tuples(*[st.integers(0, 1)] * 4)),
    st.builds(AveragePool, st.just(0.1), st.just(0), st.just(0), WINDOWS, WINDOWS),
)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(3, 9), st.integers(3, 9))


@given(OPERATORS, SHAPES, st.integers(60, 4000), st.booleans())
def test_every_output_is_made_once_of_tiles_with_all_that_it_needs(
    operator: VectorOperator, shape: Shape, size: int, double_buffered: bool
) -> None:
    hardware = machine(size, double_buffered)
    if why_no_vector("it", operator, shape, hardware):
        return
    program = lower_vector("it", operator, shape, hardware)
    check_balance(program)
    layer = program.layer
    there: dict[str, set] = {}
    made: Counter = Counter()
    stored: Counter = Counter()
    for step in walk(program):
        match step.instruction:
            case Load(operand, 0, 1, extents):
                kind = "output" if operand == "weight" else operand  # right operands have its coordinates
                there[operand] = tiles(program, hardware, kind, 1, extents, step.at)[()]
            case Apply(1, extents):
                for output in tiles(program, hardware, "output", 1, extents, step.at)[()]:
                    n, g, _, p, q = output
                    window = product(range(layer.R), range(layer.S))
                    needed = {element_of(layer, "input", (n, g, 0, 0, p, q, r, s)) for r, s in window}
                    assert needed <= there["input"]
                    assert output in there["output"]
                    assert output in there.get("weight", {output})
                    made[output] += 1
            case Store(1, 0, extents):
                stored.update(tiles(program, hardware, "output", 1, extents, step.at)[()])
    outputs = product(range(layer.N), range(layer.G), [0], range(layer.P), range(layer.Q))
    assert made == stored == dict.fromkeys(outputs, 1)
    assert ("weight" in there) == isinstance(operator, Add)


@given(OPERATORS, SHAPES, st.integers(60, 4000), st.booleans())
def test_tiles_have_places_of_their_own_and_fit(
    operator: VectorOperator, shape: Shape, size: int, double_buffered: bool
) -> None:
    hardware = machine(size, double_buffered)
    if why_no_vector("it", operator, shape, hardware):
        return
    program = lower_vector("it", operator, shape, hardware)
    largest: dict[str, int] = defaultdict(int)
    loads = {each.operand: each for each in program.instructions if isinstance(each, Load)}
    for step in walk(program):
        if isinstance(step.instruction, Load):
            load = step.instruction
            kind = "output" if load.operand == "weight" else load.operand
            tile = tiles(program, hardware, kind, 1, load.extents, step.at)[()]
            largest[load.operand] = max(largest[load.operand], len(tile))
    taken: set[int] = set()
    for operand, load in loads.items():
        assert load.pitch == largest[operand]
        own = set(range(load.address, load.address + load.places * load.pitch))
        assert not own & taken
        taken |= own
        assert load.places == 1 + double_buffered
    assert max(taken) < size


def test_what_is_large_is_cut_into_tiles_that_overlap_in_time() -> None:
    program = lower_vector("pool", POOL, (1, 64, 112, 112), machine(1 << 20))
    assert sum(isinstance(step.instruction, Apply) for step in walk(program)) == 16


def test_what_is_small_is_not_cut_further_than_rows() -> None:
    program = lower_vector("add", ADD, (1, 1, 4, 5), machine(1 << 20))
    assert sum(isinstance(step.instruction, Apply) for step in walk(program)) == 4


@pytest.mark.parametrize(
    ("operator", "shape", "hardware", "reason"),
    [
        (
            ADD,
            (1, 1, 2, 100),
            machine(599),
            "the rows of it need 600 bytes in buffer, two of each .* has 599",
        ),
        (ADD, (1, 1, 2, 100), machine(599, dram=500), "the tensors of it need 600 bytes in dram; it has 500"),
        (POOL, (1, 1, 0, 9), machine(599), r"it: a window of \(3, 3\) is larger than its input of 0 by 9"),
        (
            ADD,
            (1, 1, 2, 2),
            Hardware("flat", 1e9, (Compute("int8", 1),), (Memory("dram", 1 << 20, 1e9),)),
            "flat has no memory beside dram that keeps the input and the output",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_size(
    operator: VectorOperator, shape: Shape, hardware: Hardware, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        lower_vector("it", operator, shape, hardware)


def test_a_row_that_just_fits_is_not_refused() -> None:
    assert why_no_vector("it", ADD, (1, 1, 2, 100), machine(600)) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Recode(float("nan"), 0, 0), "a multiplier is a finite number"),
        (lambda: Add(1.0, 0, 1.0, 256, 0), "codes from 0 to 255"),
        (lambda: MaxPool((0, 3), (1, 1)), "window and stride are at least 1"),
        (lambda: MaxPool((3, 3), (1, 1), (0, -1, 0, 0)), "padding is not negative"),
    ],
)
def test_an_operator_checks_itself(make, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()
