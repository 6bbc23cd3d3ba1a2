"""What is true of every machine that is shipped."""

from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheme import INT8
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.model import estimate

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "targets" / "machines").glob("*.toml"))
FREE = {("eyeriss_v2_pe", "dram")}  # what is behind a single unit costs nothing in its source, either
LAYER = Layer("fc", "matmul", N=6, C=10)

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_it_fits_on_a_page_that_says_where_it_is_from(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 65
    comment = " ".join(line for line in lines if line.startswith("#"))
    assert any(origin in comment for origin in ("ISSCC 2014", "ISCA 2016", "ISCA 2018", "github.com/"))


def test_each_energy_is_given_with_its_source(path: Path) -> None:
    machine = Hardware.load(path)
    for unit in machine.compute:
        assert unit.energy_per_mac > 0
        assert unit.source
    for memory in machine.memories:
        if (machine.name, memory.name) not in FREE:
            assert memory.energy_per_byte > 0
            assert memory.source


def test_energy_grows_from_the_units_outwards(path: Path) -> None:
    machine = Hardware.load(path)
    energies = [memory.energy_per_byte for memory in machine.memories if memory.energy_per_byte]
    assert max(energies[1:]) < energies[0] or (machine.name, "dram") in FREE


def test_it_maps_a_layer(path: Path) -> None:
    machine = Hardware.load(path)
    found = Mapper(machine, effort=2_000).map(LAYER)
    for each in (found.fastest, found.least_energy):
        assert why_not(LAYER, INT8, each.mapping, machine) is None
        assert estimate(LAYER, INT8, each.mapping, machine).energy == pytest.approx(each.energy)
    assert found.fastest.cycles >= LAYER.macs / machine.units
    assert found.bound.cycles <= found.fastest.cycles
