from dataclasses import replace
from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapping import Mapping
from tersor.scheduler import costs as module
from tersor.scheduler.costs import Costs
from tersor.scheduler.machine_space import machine_space
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.mapper.mapper import Task
from tersor.targets.accelerator.model import estimate
from tests.scheduler.toy_machine import TOY

EFFORT = 250
DENSE = Layer("fc", "matmul", N=16, K=32, C=64)
TABLE = Layer("table", "gather", N=16, K=64, C=1000)
EYERISS = Hardware.load(Path(__file__).parents[2] / "targets" / "machines" / "eyeriss.toml")


@pytest.fixture(scope="module")
def costs() -> Costs:
    return Costs(TOY, effort=EFFORT)


def edp(costs: Costs, text: str, layer: Layer = DENSE) -> float:
    return min(point.edp for point in costs.front(layer, Scheme.parse(text)))


def test_a_point_takes_what_the_model_says_of_its_mapping(costs: Costs) -> None:
    for text in ("int8", "w4a8", "int4+2:4"):
        scheme = Scheme.parse(text)
        for point in costs.front(DENSE, scheme):
            mapping = point.mappings["fc"]
            assert why_not(DENSE, scheme, mapping, TOY) is None
            cost = estimate(DENSE, scheme, mapping, TOY)
            assert point.cycles == pytest.approx(cost.seconds * TOY.clock)
            assert point.energy == pytest.approx(cost.energy)
            assert costs.of_mappings(DENSE, scheme, point.mappings) == point


def test_fewer_bits_and_zeros_that_are_skipped_take_less(costs: Costs) -> None:
    taken = [edp(costs, text) for text in ("fp32", "int8", "w4a8", "int4", "int4+2:4")]
    assert taken == sorted(taken, reverse=True)
    assert edp(costs, "int8+2:4") < edp(costs, "int8")


def test_a_scheme_that_asks_for_less_is_no_worse_however_shortly_it_is_searched() -> None:
    short = Costs(TOY, effort=10)
    for chain in (("int8", "w4a8", "int4", "int4+2:4"), ("int8", "int8+2:4"), ("w4a8", "w4a8+2:4")):
        fronts = [short.front(DENSE, Scheme.parse(text)) for text in chain]
        for of in (lambda point: point.cycles, lambda point: point.energy, lambda point: point.edp):
            taken = [min(map(of, front)) for front in fronts]
            assert taken == sorted(taken, reverse=True)


def test_a_layer_with_a_factor_is_its_chain(costs: Costs) -> None:
    scheme = Scheme.parse("int8+rank8")
    assert scheme.factor
    first, last = DENSE.factored(scheme.factor)
    for point in costs.front(DENSE, scheme):
        assert set(point.mappings) == {"fc.0", "fc.1"}
        parts = [costs.of_mappings(part, INT8, point.mappings) for part in (first, last)]
        assert point.cycles == pytest.approx(sum(part.cycles for part in parts))
        assert point.energy == pytest.approx(sum(part.energy for part in parts))


def test_outputs_are_as_wide_as_what_reads_them(costs: Costs) -> None:
    four = Scheme.parse("int4")
    least = [min(point.energy for point in costs.front(DENSE, four, bits)) for bits in (4, 8, 32)]
    assert least[1] - least[0] >= 100.0 * DENSE.output_count / 2 * 0.99
    assert least[2] - least[1] >= 100.0 * DENSE.output_count * 3 * 0.9


def test_a_scheme_costs_what_the_machine_makes_of_it(costs: Costs) -> None:
    assert edp(costs, "w2a8") == edp(costs, "w4a8")
    assert edp(costs, "int8+sparse50") == edp(costs, "int8")
    assert costs.size(DENSE, Scheme.parse("w2a8")) == costs.size(DENSE, Scheme.parse("w4a8"))
    narrow = Costs(EYERISS, effort=EFFORT)
    assert narrow.size(DENSE, INT8) == DENSE.weight_count * 2 + 8 * DENSE.K


def test_rows_of_recurrent_layers_come_one_after_the_other_and_tables_are_read(costs: Costs) -> None:
    row = Layer("row", "matmul", K=16, C=16)
    rows = replace(row, N=12, recurrent=True)
    assert costs.front(rows, INT8)[0].cycles == pytest.approx(12 * costs.front(row, INT8)[0].cycles)
    (read,) = costs.front(TABLE, Scheme.parse("w8a32"))
    assert read.energy >= 2 * 16 * 64 * 100.0
    assert read.mappings == {}


def test_what_the_machine_cannot_run_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="eyeriss computes in int16, not in fp32"):
        Costs(EYERISS, effort=EFFORT).front(DENSE, FP32)
    tiny = replace(TOY, memories=(replace(TOY.memories[0], size=100), *TOY.memories[1:]))
    with pytest.raises(ValueError, match="no mapping of fc was found that fits toy's memories"):
        Costs(tiny, effort=EFFORT).front(DENSE, INT8)


def test_zeros_count_where_the_machine_makes_use_of_them() -> None:
    def half(name: str, scheme: Scheme) -> Densities:
        return Densities(input=0.5)

    dense, sparse = Costs(TOY, effort=EFFORT), Costs(TOY, effort=EFFORT, zeros=half)
    assert sparse.front(DENSE, INT8) == dense.front(DENSE, INT8)
    assert TOY.datapath
    gating = replace(TOY, datapath=replace(TOY.datapath, gates=("input",)))
    dense, sparse = Costs(gating, effort=EFFORT), Costs(gating, effort=EFFORT, zeros=half)
    assert edp(sparse, "int8") < edp(dense, "int8")


def test_what_was_searched_is_not_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "costs.db"
    asked = [(DENSE, scheme, None) for scheme in machine_space(DENSE, TOY).legal]
    first = Costs.kept(TOY, path, EFFORT)
    heard: list[tuple[int, int]] = []
    first.prepare(asked, lambda done, of: heard.append((done, of)))
    counts = first.journal.count("mappings"), first.journal.count("taken")
    assert heard[-1] == (sum(counts), sum(counts))

    def fail(*given: object) -> None:
        raise AssertionError("searched again")

    for work in ("_search", "_rated"):
        monkeypatch.setattr(module, work, fail)
    again = Costs.kept(TOY, path, EFFORT)
    for layer, scheme, _ in asked:
        named = replace(layer, name="another")
        found = again.front(named, scheme)
        assert [(each.cycles, each.energy) for each in found] == [
            (each.cycles, each.energy) for each in first.front(layer, scheme)
        ]


def test_only_widths_that_are_asked_for_are_timed_transfer_by_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int | None] = []
    rated = module._rated

    def heard(hardware: Hardware, task: Task, mapping: Mapping) -> tuple[float, float] | None:
        timed.append(task.output_bits)
        return rated(hardware, task, mapping)

    monkeypatch.setattr(module, "_rated", heard)
    costs = Costs.kept(TOY, tmp_path / "costs.db", EFFORT)
    costs.workers = 1
    front = costs.front(DENSE, Scheme.parse("w4a8"), 4)
    assert set(timed) == {4}, "neither 8 bits nor the int8 that its search begins with"
    assert len(timed) >= len(front)
    timed.clear()
    costs.front(DENSE, Scheme.parse("w4a8"), 4)
    Costs.kept(TOY, tmp_path / "costs.db", EFFORT).front(DENSE, Scheme.parse("w4a8"), 4)
    assert not timed
    for _ in range(2):
        costs.of_mappings(DENSE, Scheme.parse("w4a8"), front[0].mappings, 8)
    assert timed == [8]


def test_another_machine_effort_or_model_is_searched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.db"
    sizes: list[int] = []
    for hardware, effort in ((TOY, EFFORT), (TOY, EFFORT), (TOY, 300), (replace(TOY, clock=2e9), EFFORT)):
        costs = Costs.kept(hardware, path, effort)
        costs.front(DENSE, INT8)
        sizes.append(costs.journal.count("mappings"))
    monkeypatch.setattr(module, "model_version", lambda: "another")
    costs = Costs.kept(TOY, path, EFFORT)
    costs.front(DENSE, INT8)
    assert [*sizes, costs.journal.count("mappings")] == [1, 1, 2, 3, 4]


def test_costs_made_of_others_do_not_take_their_mappings_for_their_own() -> None:
    costs = Costs(TOY, effort=EFFORT)
    costs.front(DENSE, INT8)
    for number, changes in enumerate(({"effort": 1000}, {"hardware": replace(TOY, clock=2e9)}), start=2):
        replace(costs, **changes).front(DENSE, INT8)
        assert costs.journal.count("mappings") == number


def test_costs_do_not_depend_on_what_was_asked_before_or_on_workers() -> None:
    scheme = Scheme.parse("w4a8")
    alone = Costs(TOY, effort=EFFORT, workers=1)
    together = Costs(TOY, effort=EFFORT, workers=2)
    together.prepare([(DENSE, each, None) for each in machine_space(DENSE, TOY).legal])
    assert alone.front(DENSE, scheme) == together.front(DENSE, scheme)
