from pathlib import Path

import pytest

from tersor.run_picture import first_events, run_picture
from tersor.targets.accelerator.simulator.result import Event
from tersor.targets.accelerator.simulator.state import MOST_EVENTS
from tests.simulated_layers import EDGE, EVENTS, by_hand, on_array


def test_transfers_are_in_rows_by_operand_and_direction() -> None:
    rows, end = first_events(EVENTS)
    assert {name: len(events) for name, events in rows.items()} == {
        "input to buffer": 1,
        "weight to buffer": 1,
        "output leaves buffer": 1,
        "array waits for": 1,
    }
    assert end == 120.0


def test_nothing_is_drawn_from_where_events_of_an_operand_were_left_out() -> None:
    many = [Event("weight", "buffer", "comes", 2.0 * turn, 2.0 * turn + 1) for turn in range(MOST_EVENTS)]
    last = many[-1].begin
    rows, end = first_events((*many, Event("output", "buffer", "leaves", last + 4, last + 9)))
    assert rows["weight to buffer"] == many[:-1]
    assert rows["output leaves buffer"] == []
    assert end == last


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_equal_runs_give_equal_pictures(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = by_hand(
        on_array("first"), on_array("second", 300.0), on_array("pool", 9.0, macs=0, stalls={}, events=())
    )
    for name in ("1", "2"):
        run_picture(run, EDGE, "net", tmp_path / f"{name}.{ending}")
    first, second = (tmp_path / f"{name}.{ending}" for name in ("1", "2"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 10_000
