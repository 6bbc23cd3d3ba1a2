import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.cost import Cost
from tersor.scheduler.contract import QUANTITIES, Contract
from tersor.scheduler.figures import FIGURES, figure_of, figure_text, limits_of, modelled


def test_the_loss_stands_for_the_drop_and_each_other_quantity_for_itself() -> None:
    assert tuple(modelled(quantity) for quantity in QUANTITIES) == FIGURES


def test_limits_are_the_bounds_that_the_model_can_keep() -> None:
    contract = Contract(max_drop=1.0, max_latency=2.0, max_size=3)
    assert limits_of(contract) == {"latency": 2.0, "size": 3}


def test_figures_are_read_off_a_cost_and_a_loss() -> None:
    cost = Cost(seconds=2.0, energy=3.0, size=5)
    assert [figure_of(cost, 0.1, figure) for figure in FIGURES] == [2.0, 3.0, 6.0, 5.0, 0.1]


def test_texts_have_the_unit() -> None:
    assert figure_text("latency", 0.00123) == "0.00123 s"
    assert figure_text("size", 8656) == "8656 bytes"
    assert figure_text("loss", 0.0) == "0"


@given(st.floats(1e-12, 1e15))
def test_a_value_is_rounded_so_that_it_can_be_kept_as_a_limit(value: float) -> None:
    text = float(figure_text("loss", value))
    assert text >= value
    assert text == pytest.approx(value, rel=1.1e-3)
