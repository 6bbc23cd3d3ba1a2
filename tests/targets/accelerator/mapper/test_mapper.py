import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tersor.hardware import Hardware, Memory
from tersor.layer import Layer
from tersor.loop_tree import parse_tree, write_tree
from tersor.mapping import Keep
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.accelerator.legality import why_no_layer, why_not
from tersor.targets.accelerator.mapper.mapper import Found, Mapper, Task
from tersor.targets.accelerator.model import evaluate, scheduled
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.residency import Operands, home_level
from tests.targets.accelerator.mapper.every_mapping import best_of_all, small_space

MACHINES = Path(__file__).parents[4] / "targets" / "machines"
EDGE = Hardware.load(MACHINES / "edge.toml")
SCHEMES = [Scheme.parse(each) for each in ("int8", "w16a16", "fp16", "int8+2:4", "fp32")]
LAYER = Layer("conv", "conv2d", K=32, C=16, P=14, Q=14, R=3, S=3, padding=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def found() -> Found:
    return Mapper(EDGE).map(LAYER)


def least_ranked(layer: Layer, mapper: Mapper, on_chip: Operands = ()) -> tuple[float, float, float]:
    """The least cycles, pJ and their product, by the sums that mappings are ranked by."""
    front = mapper.rank(Task(layer, on_chip=on_chip))
    cycles, energy = [each[1] for each in front], [each[2] for each in front]
    return min(cycles), min(energy), min(c * e for c, e in zip(cycles, energy, strict=True))


def assert_best_of_all(seed: int) -> None:
    layer, hardware = small_space(seed)
    mapper = Mapper(hardware, exhaustive=10**8)
    assert least_ranked(layer, mapper) == pytest.approx(best_of_all(layer, hardware), rel=1e-12), seed
    exact = mapper.map(layer)
    assert exact.exact
    assert exact.bound.cycles <= exact.fastest.cycles * (1 + 1e-12), seed
    assert exact.bound.energy <= exact.least_energy.energy * (1 + 1e-12), seed
    assert exact.bound.edp <= exact.least_edp.edp * (1 + 1e-12), seed


@pytest.mark.parametrize("seed", range(20))
def test_small_spaces_give_the_best_of_all_mappings(seed: int) -> None:
    assert_best_of_all(seed)


@pytest.mark.parametrize("on_chip", [("input",), ("output",), ("input", "output")])
def test_so_do_spaces_of_layers_whose_tensors_stay_on_the_chip(on_chip: Operands) -> None:
    tried = 0
    for seed in range(40):
        layer, hardware = small_space(seed)
        if home_level(hardware) is None:
            continue
        mapper = Mapper(hardware, exhaustive=10**8)
        best = best_of_all(layer, hardware, on_chip)
        if best[0] == float("inf"):
            with pytest.raises(ValueError, match="no mapping of small was found that fits"):
                mapper.map(layer, on_chip=on_chip)
            continue
        tried += 1
        assert least_ranked(layer, mapper, on_chip) == pytest.approx(best, rel=1e-12), seed
        exact = mapper.map(layer, on_chip=on_chip)
        assert all(Keep(operand, "buffer") in exact.fastest.mapping.keep for operand in on_chip)
        assert exact.bound.cycles <= exact.fastest.cycles * (1 + 1e-12), seed
        assert exact.bound.energy <= exact.least_energy.energy * (1 + 1e-12), seed
    assert tried >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 200))
def test_more_small_spaces_give_the_best_of_all_mappings(seed: int) -> None:
    assert_best_of_all(seed)


@pytest.mark.parametrize("seed", range(1, 10))
def test_the_beam_comes_close_to_the_best_of_all(seed: int) -> None:
    layer, hardware = small_space(seed)
    beam = Mapper(hardware, exhaustive=0)
    best = least_ranked(layer, Mapper(hardware, exhaustive=10**8))
    assert not beam.map(layer).exact
    for ours, least in zip(least_ranked(layer, beam)[:2], best[:2], strict=True):
        assert 1 <= ours / least <= 1.05


def test_a_short_search_is_better_beside_what_is_good_under_another_scheme() -> None:
    task = Task(LAYER, Scheme.parse("int4+2:4"))
    near = [mapping for mapping, _, _ in Mapper(EDGE, effort=20_000).rank(Task(LAYER))]
    there = (evaluate(*Nest.of(mapping, LAYER, EDGE), task.scheme) for mapping in near)
    least = min(float(each.energy[0]) for each in there)
    short = Mapper(EDGE, effort=1_000, exhaustive=0)
    beside, alone = (min(energy for _, _, energy in short.rank(task, start)) for start in (near, ()))
    assert beside < least < alone


def test_mappings_are_legal_cost_what_is_said_and_print(found: Found) -> None:
    for each in found.front:
        assert why_not(LAYER, INT8, each.mapping, EDGE) is None
        cost = evaluate(*Nest.of(each.mapping, LAYER, EDGE), INT8)
        assert cost.cycles[0] == pytest.approx(each.ranked)
        assert scheduled(*Nest.of(each.mapping, LAYER, EDGE), INT8).cycles == pytest.approx(each.cycles)
        assert cost.energy[0] == pytest.approx(each.energy)
        assert parse_tree(write_tree(each.mapping, EDGE)) == each.mapping


def test_the_front_trades_time_for_energy(found: Found) -> None:
    cycles, energy = [each.cycles for each in found.front], [each.energy for each in found.front]
    assert cycles == sorted(set(cycles))
    assert energy == sorted(set(energy), reverse=True)
    assert (found.fastest, found.least_energy) == (found.front[0], found.front[-1])
    assert found.least_edp.edp == min(each.edp for each in found.front)


def test_a_gap_to_the_bound_is_said_where_not_all_was_tried(found: Found) -> None:
    assert not found.exact
    assert found.latency_gap == found.fastest.cycles / found.bound.cycles - 1
    assert 0 <= found.latency_gap <= 0.06, "256 units, 16 of the rows for C, 16 of the columns for K"
    assert 0 <= found.energy_gap <= 0.1
    assert found.edp_gap == found.least_edp.edp / found.bound.edp - 1
    assert 0 <= found.edp_gap <= 0.2


def test_the_same_layer_gives_the_same_mappings(found: Found) -> None:
    assert Mapper(EDGE).map(LAYER) == found


def test_repeated_shapes_are_searched_once() -> None:
    mapper = Mapper(EDGE, effort=5_000)
    first = mapper.map(LAYER)
    assert mapper.map(replace(LAYER, name="again")) is first
    assert mapper.map(LAYER, Scheme.parse("int8+2:4")) is not first
    assert mapper.map(LAYER, Scheme.parse("int8+2:4")).fastest.cycles < first.fastest.cycles


def test_shapes_searched_on_several_cores_give_the_same_mappings() -> None:
    shapes = [LAYER, replace(LAYER, name="again"), replace(LAYER, K=24), Layer("table", "gather", N=4, C=9)]
    together, alone = Mapper(EDGE, effort=3_000), Mapper(EDGE, effort=3_000)
    heard: list[tuple[int, int]] = []
    together.search([Task(each) for each in shapes], lambda *done: heard.append(done), workers=2)
    assert heard == [(0, 2), (1, 2), (2, 2)], "equal shapes once, a table never"
    for layer in shapes[:3]:
        assert together.map(layer) == alone.map(layer)


@pytest.mark.parametrize("name", sorted(path.stem for path in MACHINES.glob("*.toml")))
def test_the_effort_bounds_the_work_on_every_machine(name: str) -> None:
    machine = Hardware.load(MACHINES / f"{name}.toml")
    scheme = next(each for each in SCHEMES if why_no_layer(LAYER, each, machine) is None)
    found = Mapper(machine, effort=3_000).map(LAYER, scheme)
    assert not found.exact
    assert found.evaluated <= 20_000, "one frame is begun with and improved at the least"
    assert found.bound.cycles <= found.fastest.cycles * (1 + 1e-12)
    assert found.bound.energy <= found.least_energy.energy * (1 + 1e-12)


def test_a_systolic_array_keeps_its_weights_in_place() -> None:
    array = Hardware.load(MACHINES / "systolic_ws.toml")
    fast = replace(array, memories=(replace(array.memories[0], bandwidth=1e12), *array.memories[1:]))
    found = Mapper(fast, effort=20_000).map(Layer("product", "matmul", N=320, K=64, C=64))
    passes = 4 * (320 + 31 + 31 + 32)  # each with its skew and its load
    assert passes < found.fastest.ranked <= 1.35 * passes, "the first tiles are waited for"
    assert passes < found.fastest.cycles <= 1.35 * passes


def test_what_cannot_be_mapped_has_its_reason() -> None:
    with pytest.raises(ValueError, match="looks rows up"):
        Mapper(EDGE).map(Layer("table", "gather", N=4, K=8, C=100))
    with pytest.raises(ValueError, match="computes in int8, int4, not in fp32"):
        Mapper(replace(EDGE, compute=EDGE.compute[:2])).map(LAYER, FP32)
    small = replace(EDGE, memories=(Memory("dram", 64, 1e9),), axes=(), datapath=None)
    with pytest.raises(ValueError, match="no mapping of conv was found that fits edge's memories"):
        Mapper(small, effort=1000).map(LAYER)


def test_workers_are_not_given_results_which_change_while_a_thread_pickles_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mapper, given = Mapper(EDGE, effort=100), []

    def look(function: Any, tasks: list[Task], _workers: int | None) -> Iterator[tuple[int, Found | None]]:
        for number, task in enumerate(tasks):
            given.append(dict(function.__self__._known))
            yield number, function(task)

    monkeypatch.setattr(importlib.import_module(Mapper.__module__), "in_workers", look)
    shown: list[tuple[int, int]] = []
    mapper.search([Task(LAYER, INT8), Task(replace(LAYER, K=16), INT8)], lambda *done: shown.append(done))
    assert given == [{}, {}]
    assert shown == [(0, 2), (1, 2), (2, 2)]
    assert mapper.map(LAYER).evaluated > 0
