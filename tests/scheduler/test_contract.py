import pytest

from tersor.cost import Cost
from tersor.scheduler.contract import QUANTITIES, Contract, quantity_of

COST = Cost(seconds=2.0, energy=3.0, size=100)


def test_bounds_are_those_that_are_given() -> None:
    assert Contract().bounds() == {}
    assert Contract(max_drop=0.0, max_size=10).bounds() == {"drop": 0.0, "size": 10}


def test_what_breaks_no_bound_keeps_the_contract() -> None:
    contract = Contract("edp", max_drop=1.0, max_latency=2.0, max_energy=3.0, max_size=100)
    assert contract.broken(COST, 1.0) == {}


def test_broken_bounds_are_named_with_how_many_times_they_are_taken() -> None:
    contract = Contract(max_latency=1.0, max_energy=4.0, max_size=50, max_drop=0.5)
    assert contract.broken(COST, 2.0) == {"latency": 2.0, "size": 2.0, "drop": 4.0}


def test_a_drop_that_may_be_none_counts_the_points_on_top_of_one() -> None:
    assert Contract(max_drop=0.0).broken(COST, 0.25) == {"drop": 1.25}
    assert Contract(max_drop=0.0).broken(COST, -0.25) == {}


def test_each_quantity_is_read_off_a_cost_and_a_drop() -> None:
    assert {name: quantity_of(COST, 0.5, name) for name in QUANTITIES} == {
        "latency": 2.0,
        "energy": 3.0,
        "edp": 6.0,
        "size": 100.0,
        "drop": 0.5,
    }


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"minimize": "speed"}, "minimize one of latency, energy, edp, size, drop, got 'speed'"),
        ({"max_latency": 0.0}, "a bound on the latency is a number above 0, got 0"),
        ({"max_drop": -1.0}, "a bound on the drop is a number of points, 0 or more, got -1"),
        ({"max_drop": float("inf")}, "a bound on the drop is a number of points, 0 or more, got inf"),
        ({"max_energy": float("nan")}, "a bound on the energy is a number above 0, got nan"),
        ({"max_size": 0}, "a bound on the size is a number above 0, got 0"),
        ({"max_latency": float("inf")}, "a bound on the latency is a number above 0, got inf"),
        ({"budget": 0.0}, "a budget is a number of seconds above 0, got 0"),
        ({"budget": float("nan")}, "a budget is a number of seconds above 0, got nan"),
        ({"minimize": "drop"}, "bound latency, energy or size"),
        ({"minimize": "drop", "max_drop": 1.0}, "bound latency, energy or size"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused_in_a_sentence(fields: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Contract(**fields)
