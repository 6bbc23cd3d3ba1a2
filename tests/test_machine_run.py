from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tersor.cli.simulate_table import notes, simulate_table
from tersor.error import UserError
from tersor.machine_run import Agreement, MachineRun, agreement
from tests.simulated_layers import EDGE, by_hand, on_array


def test_a_run_is_written_and_read_back(tmp_path: Path) -> None:
    run = by_hand(on_array("first"), on_array("second", 300.0), outputs=(Agreement("y", 10, 1, 0.5),))
    run.save(tmp_path / "run.json")
    assert MachineRun.load(tmp_path / "run.json") == run
    assert (run.cycles, run.energy) == (420.0, 2000.0)


def test_what_does_not_add_up_is_refused(tmp_path: Path) -> None:
    run = by_hand(on_array("first"))
    with pytest.raises(ValueError, match="cycles are 120 of all layers, got 121"):
        replace(run, cycles=121.0)
    with pytest.raises(ValueError, match="cannot be with stalls"):
        on_array("first", stalls={"fill": 121.0})
    run.save(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"samples": 1', '"samples": "one"'))
    with pytest.raises(UserError, match="samples must be"):
        MachineRun.load(tmp_path / "run.json")


def test_errors_of_the_prediction_are_relative_to_what_was_simulated() -> None:
    layer = on_array("first")
    assert layer.predicted is not None
    assert layer.cycles_error == pytest.approx(layer.predicted.cycles / 120 - 1)
    assert layer.energy_error == pytest.approx(layer.predicted.energy / 1000 - 1)
    assert on_array("pool", predicted=None).cycles_error is None


def test_what_is_at_work_the_longest_bounds_a_layer() -> None:
    assert on_array("short", 120.0).bound_by == "dram"
    assert on_array("long", 300.0).bound_by == "compute"


def test_outputs_are_compared_to_the_last_bit() -> None:
    ours = np.array([1.0, -0.0, np.nan, 3.0], np.float32)
    theirs = np.array([1.0, 0.0, np.nan, 3.5], np.float32)
    assert agreement("y", [(ours, ours), (ours, ours.copy())]) == Agreement("y", 8, 0, 0.0)
    assert agreement("y", [(ours, ours), (ours, theirs)]) == Agreement("y", 8, 2, 0.5)
    assert agreement("y", [(ours[2:3], theirs[:1])]).largest == np.finfo(np.float64).max
    codes = np.array([250], np.uint8), np.array([5], np.uint8)
    assert agreement("y", [codes]) == Agreement("y", 1, 1, 245.0)


def test_the_notes_say_what_ran_where_and_what_is_wrong() -> None:
    said = list(notes(by_hand(on_array("first"), outputs=(Agreement("y", 10, 0, 0.0),))))
    assert said == [
        "edge makes 50.0 % of the network's products",
        "on the CPU: 2 softmax: computes in floating point",
        "on the CPU: odd: needs more than the buffer",
        "the outputs equal those of the build for the CPU, bit for bit",
    ]
    wrong = list(notes(by_hand(on_array("first"), outputs=(Agreement("y", 10, 1, 0.5),))))
    assert wrong[-1].endswith("1 of 10 elements differ, by 0.5 at most")


def test_the_table_has_the_totals() -> None:
    layers = on_array("first"), on_array("pool", 30.0, predicted=None, macs=0, scheme="", stalls={})
    table = simulate_table("net", by_hand(*layers), EDGE)
    footer = {str(column.header): str(column.footer) for column in table.columns}
    assert footer["cycles"] == "150"
    assert footer["stall"] == "input@buffer 60 %"
    assert str(table.title).startswith("net, int8 on edge, simulated on 1 sample: 0.0003 ms")
    assert [str(column.header) for column in table.columns].count("model") == 2, "of cycles, of energy"


def test_layers_have_the_numbers_of_the_picture_and_energies_an_error_only_where_one_is_off() -> None:
    first = on_array("first")
    assert first.predicted is not None
    exact = replace(first, energy=first.predicted.energy)
    table = simulate_table("net", by_hand(exact, replace(exact, name="second")), EDGE)
    assert list(table.columns[0].cells) == ["1", "2"]
    assert list(table.columns[1].cells) == ["first", "second"]
    assert [str(column.header) for column in table.columns].count("model") == 1
    assert "energies in uJ, as predicted" in str(table.title)
