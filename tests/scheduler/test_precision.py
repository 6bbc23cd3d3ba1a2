"""Which layers lose by integers: the minimum cut against all choices of small networks."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.scheduler.precision import Times, better_in_float

NAMES = ("a", "b", "c", "d", "e")
SECONDS = st.integers(0, 40).map(lambda microseconds: microseconds * 1e-6)
NETWORKS = st.fixed_dictionaries({name: st.builds(Times, SECONDS, SECONDS) for name in NAMES})
CONVERSIONS = st.dictionaries(st.sampled_from(list(itertools.combinations(NAMES, 2))), SECONDS)


def cost(times: dict[str, Times], conversions: dict[tuple[str, str], float], floats: frozenset[str]) -> float:
    alone = sum(each.floating if name in floats else each.integer for name, each in times.items())
    return alone + sum(s for (a, b), s in conversions.items() if (a in floats) != (b in floats))


@settings(max_examples=200, deadline=None)
@given(NETWORKS, CONVERSIONS)
def test_no_other_choice_is_faster(
    times: dict[str, Times], conversions: dict[tuple[str, str], float]
) -> None:
    every = [frozenset(c) for n in range(len(NAMES) + 1) for c in itertools.combinations(NAMES, n)]
    least = min(cost(times, conversions, floats) for floats in every)
    found = better_in_float(times, conversions)
    assert cost(times, conversions, found) == pytest.approx(least, abs=1e-10)


def test_a_layer_stays_in_integers_where_its_conversions_would_cost_more_than_it_gains() -> None:
    times = {"a": Times(10e-6, 30e-6), "b": Times(12e-6, 8e-6), "c": Times(10e-6, 30e-6)}
    assert better_in_float(times, {}) == {"b"}
    assert better_in_float(times, {("a", "b"): 1e-6, ("b", "c"): 1e-6}) == {"b"}
    assert better_in_float(times, {("a", "b"): 3e-6, ("b", "c"): 3e-6}) == frozenset()


def test_a_layer_between_two_that_lose_goes_with_them() -> None:
    times = {"a": Times(30e-6, 10e-6), "b": Times(9e-6, 10e-6), "c": Times(30e-6, 10e-6)}
    assert better_in_float(times, {("a", "b"): 2e-6, ("b", "c"): 2e-6}) == {"a", "b", "c"}


def test_what_is_equal_stays_in_integers() -> None:
    assert better_in_float({"a": Times(5e-6, 5e-6)}, {}) == frozenset()
    assert better_in_float({"a": Times(0, 0)}, {}) == frozenset()
    assert better_in_float({}, {}) == frozenset()


def test_times_are_not_negative() -> None:
    with pytest.raises(ValueError, match="not negative"):
        Times(-1.0, 0.0)
