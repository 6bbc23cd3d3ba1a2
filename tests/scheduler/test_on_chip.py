"""Tensors stay on the chip where that makes a network take less, and only where all of it fits."""

from dataclasses import replace
from itertools import combinations
from math import inf
from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import homes_of
from tersor.scheduler.on_chip import OnChip, Weights, at_home
from tersor.scheme import INT8
from tersor.targets.accelerator.bits import element_bits
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.lowering.allocate import home_bytes
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.passing import Passed, Programs
from tersor.targets.accelerator.placement import Order
from tersor.targets.accelerator.residency import with_size

EDGE = Hardware.load(Path(__file__).parents[2] / "targets" / "machines" / "edge.toml")
LAYERS = tuple(Layer(name, "conv2d", K=16, C=16, P=8, Q=8, R=3, S=3, padding=(1, 1, 1, 1)) for name in "abcd")
EFFORT = 500


def chain(size: int, reasons: tuple[str, ...] = ("", "", "")) -> OnChip:
    """Four layers one after the other; the first one's result is added to the third's, too."""
    hardware = with_size(EDGE, 1, size)
    bits = element_bits(LAYERS[0], INT8, hardware, DENSE)[1]
    views = {each: home_bytes(LAYERS[0], each, bits) for each in ("weight", "input", "output")}
    readers = [((1, ("input",)), (2, ())), ((2, ("input",)),), ((3, ("input",)),)]
    passed = tuple(
        Passed(number, each, max(views["input"], views["output"]), reason)
        for number, (each, reason) in enumerate(zip(readers, reasons, strict=True))
    )
    order = Order((0b0000, 0b0001, 0b0011, 0b0111))
    programs = Programs(hardware, tuple("abcd"), order, passed, (views,) * 4)  # type: ignore[arg-type]
    tasks = {number: Task(layer) for number, layer in enumerate(LAYERS)}
    mapping = Mapper(hardware, EFFORT, exhaustive=EFFORT).map(LAYERS[0]).least_edp.mapping
    mappings = dict.fromkeys(tasks, mapping)
    return OnChip(programs, tasks, mappings, Weights.of("edp", 1e5, 1e7), EFFORT, workers=1)


def test_all_tensors_stay_where_there_is_room() -> None:
    search = chain(1 << 20)
    chosen = search.choose()
    assert [each.producer for each in chosen.kept] == [0, 1, 2]
    assert not chosen.refused
    homes = {number: homes_of(mapping, EDGE) for number, mapping in chosen.mappings.items()}
    assert [(homes[n]["input"], homes[n]["output"]) for n in range(4)] == [
        ("dram", "buffer"),
        ("buffer", "buffer"),
        ("buffer", "buffer"),
        ("buffer", "dram"),
    ]
    assert search.price(chosen.kept) < 0.85 * search.price(())


@pytest.mark.parametrize("size", [3000, 4500, 6000, 9000, 16000])
def test_what_is_chosen_fits_beside_the_tiles_and_no_other_choice_is_better(size: int) -> None:
    search = chain(size)
    chosen = search.choose()
    rooms = search.programs.rooms(chosen.kept)
    assert rooms is not None
    for number, mapping in chosen.mappings.items():
        share = search.programs.share(number, rooms[number])
        left = with_size(search.programs.hardware, 1, share.size)
        assert why_not(LAYERS[number], INT8, mapping, left) is None
        homes = homes_of(mapping, EDGE)
        assert {operand for operand in homes if homes[operand] == "buffer"} == set(share.on_chip)
    able = search.programs.passed
    every = [some for count in range(4) for some in combinations(able, count)]
    assert search.price(chosen.kept) <= 1.1 * min(map(search.price, every))
    assert {each.producer for each in chosen.kept} | set(chosen.refused) == {0, 1, 2}
    assert all("buffer" in reason for reason in chosen.refused.values())


def test_what_cannot_stay_is_left_with_its_reason() -> None:
    chosen = chain(1 << 20, ("", "softmax reads it on the CPU", "")).choose()
    assert [each.producer for each in chosen.kept] == [0, 2]
    assert chosen.refused == {1: "softmax reads it on the CPU"}


def test_tensors_that_do_not_fit_together_have_no_price() -> None:
    search = chain(4000)
    large = [replace(each, size=2500) for each in search.programs.passed]
    assert search.price(large) == inf


@pytest.mark.parametrize(
    ("minimize", "better"), [("latency", (99.0, 500.0)), ("energy", (200.0, 49.0)), ("edp", (90.0, 54.0))]
)
def test_prices_go_by_what_is_to_be_the_least(minimize: str, better: tuple[float, float]) -> None:
    weights = Weights.of(minimize, 100.0, 50.0)  # type: ignore[arg-type]
    assert weights.price(better) < weights.price((100.0, 50.0))


def test_what_was_planned_is_kept_with_its_mappings_where_nothing_is_better() -> None:
    search = chain(1 << 20)
    chosen = search.choose()
    again = replace(search, mappings={**search.mappings, **chosen.mappings}, planned=chosen.kept)
    assert again.runs(chosen.kept)
    assert not again.runs(())
    found = again.choose()
    assert found.kept == chosen.kept
    assert not found.mappings  # as they are
    assert again.as_planned() == found


def test_what_was_planned_and_does_not_fit_is_chosen_anew() -> None:
    search = chain(1 << 20)
    large = tuple(replace(each, size=1 << 19) for each in search.programs.passed)
    search.programs = replace(search.programs, passed=large)
    found = replace(search, planned=large).choose()
    assert 0 < len(found.kept) < 3
    assert len(found.kept) + len(found.refused) == 3


def test_operands_go_to_where_they_stay_and_back() -> None:
    mapping = Mapper(EDGE, EFFORT, exhaustive=EFFORT).map(LAYERS[0]).least_edp.mapping
    inside = at_home(mapping, EDGE, ("input", "output"), 1)
    assert homes_of(inside, EDGE) == {"weight": "dram", "input": "buffer", "output": "buffer"}
    assert at_home(inside, EDGE, ("input", "output"), 1) is inside
    half = at_home(inside, EDGE, ("output",), 1)
    assert homes_of(half, EDGE) == {"weight": "dram", "input": "dram", "output": "buffer"}
    assert set(homes_of(at_home(inside, EDGE, (), 1), EDGE).values()) == {"dram"}
    assert {half.loops, inside.loops} == {mapping.loops}
