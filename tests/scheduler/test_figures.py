import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.cost import Cost
from tersor.scheduler.contract import QUANTITIES, Contract
from tersor.scheduler.figures import FIGURES, figure_of, figure_text, limits_of, modelled
from tersor.units import parse_bytes, parse_duration, parse_energy


def test_the_loss_stands_for_the_drop_and_each_other_quantity_for_itself() -> None:
    assert tuple(modelled(quantity) for quantity in QUANTITIES) == FIGURES


def test_limits_are_the_bounds_that_the_model_can_keep() -> None:
    contract = Contract(max_drop=1.0, max_latency=2.0, max_size=3)
    assert limits_of(contract) == {"latency": 2.0, "size": 3}


def test_figures_are_read_off_a_cost_and_a_loss() -> None:
    cost = Cost(seconds=2.0, energy=3.0, size=5)
    assert [figure_of(cost, 0.1, figure) for figure in FIGURES] == [2.0, 3.0, 6.0, 5.0, 0.1]


def test_texts_have_the_unit() -> None:
    assert figure_text("latency", 0.00123) == "1.23 ms"
    assert figure_text("latency", 1e-9) == "1 ns"
    assert figure_text("energy", 15.0) == "15 pJ"
    assert figure_text("edp", 2.5e4) == "25 nJ s"
    assert figure_text("size", 8656) == "8.656 kB"
    assert figure_text("size", 10) == "10 B"
    assert figure_text("loss", 0.0) == "0"


@given(st.floats(1e-12, 1e15))
def test_a_value_is_rounded_so_that_it_can_be_kept_as_a_limit(value: float) -> None:
    text = float(figure_text("loss", value))
    assert text >= value
    assert text == pytest.approx(value, rel=1.1e-3)


@given(st.floats(1e-9, 900.0), st.integers(1, 10**11))
def test_a_text_is_read_as_a_limit_that_can_be_kept(value: float, cycles: int) -> None:
    for seconds in (value, cycles / 1e9):
        assert seconds <= parse_duration(figure_text("latency", seconds)) <= 1.0011 * seconds
    assert parse_energy(figure_text("energy", cycles)) >= cycles
    assert parse_bytes(figure_text("size", cycles)) >= cycles
