import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.cost import Cost

# Integers as floats add exactly, so that equality is the right comparison.
NUMBERS = st.integers(0, 1000).map(float)
COSTS = st.builds(
    Cost,
    NUMBERS,
    NUMBERS,
    st.dictionaries(st.sampled_from(["dram", "l2"]), NUMBERS),
    st.integers(0, 9),
    st.integers(0, 9),
)


def test_what_runs_in_sequence_adds_up_but_for_the_peak() -> None:
    one, other = Cost(1.0, 10.0, {"dram": 5}, 100, 7), Cost(2.0, 20.0, {"dram": 1, "l2": 3}, 50, 9)
    assert one + other == Cost(3.0, 30.0, {"dram": 6, "l2": 3}, 150, 9)


def test_what_overlaps_takes_the_time_of_the_slower() -> None:
    one, other = Cost(1.0, 10.0, {"dram": 5}, 100, 7), Cost(2.0, 20.0, {"l2": 3}, 50, 9)
    assert one | other == Cost(2.0, 30.0, {"dram": 5, "l2": 3}, 150, 9)


@given(COSTS, COSTS, COSTS)
def test_sums_do_not_depend_on_the_order(a: Cost, b: Cost, c: Cost) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a | b == b | a
    assert a + Cost() == a
    assert sum([a, b], start=Cost()) == a + b


@given(COSTS, COSTS)
def test_dominance_is_strict(a: Cost, b: Cost) -> None:
    assert not a.dominates(a)
    assert not (a.dominates(b) and b.dominates(a))
    assert not (a + b).dominates(a)


def test_a_cost_dominates_if_it_is_nowhere_worse_and_somewhere_better() -> None:
    assert Cost(1.0, traffic={"dram": 4}).dominates(Cost(1.0, traffic={"dram": 5}))
    assert not Cost(1.0, traffic={"dram": 4}).dominates(Cost(0.5, traffic={"dram": 5}))


def test_a_cost_is_not_negative() -> None:
    with pytest.raises(ValueError, match="got seconds = -1"):
        Cost(seconds=-1)
    with pytest.raises(ValueError, match="traffic at dram = nan"):
        Cost(traffic={"dram": float("nan")})
