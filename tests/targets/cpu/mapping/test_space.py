"""The space of a kernel: legal tilings around the analytic one, which comes first."""

from dataclasses import replace

import pytest

from tersor.targets.cpu.host.isa import AVX2, AVX512_VNNI, PLAIN, Isa
from tersor.targets.cpu.kernels.depthwise import default_depthwise_tiling
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import DENSE, PRODUCT, Nest
from tersor.targets.cpu.mapping.space import Space, with_tile
from tersor.targets.cpu.mapping.tiling import default_tiling

CONV = Geometry(1, 28, 28, 64, 64, (3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = Geometry(1, 28, 28, 64, 64, (3, 3), padding=(1, 1, 1, 1), groups=64)
ROW = Geometry(1, 1, 32, 384, 384)


def space(isa: Isa, g: Geometry, cores: int, vectors: int | None = None) -> Space:
    choose = default_depthwise_tiling if g.is_depthwise else default_tiling
    axes = DENSE if g is ROW else Nest(isa, g, True).axes
    return Space(Nest(isa, g, True, axes), choose(isa, g, cores, True), cores, vectors)


@pytest.mark.parametrize("isa", [AVX2, AVX512_VNNI, PLAIN], ids=lambda isa: isa.name)
@pytest.mark.parametrize("g", [CONV, DEPTHWISE, ROW], ids=["conv", "depthwise", "dense"])
@pytest.mark.parametrize("cores", [1, 2])
def test_all_tilings_are_legal_and_different(isa: Isa, g: Geometry, cores: int) -> None:
    each = space(isa, g, cores)
    tilings = each.tilings()
    assert len(set(tilings)) == len(tilings) > 5
    assert all(each.nest.why_not(tiling) is None for tiling in tilings)
    assert all(found[0] == each.default for found in (tilings, each.tiles(), each.tasks()))
    assert {*each.tiles(), *each.tasks()} <= set(tilings)
    if cores == 1:
        assert not any(tiling.parallel for tiling in tilings)


def test_tiles_differ_in_registers_only_and_tasks_in_nothing_there() -> None:
    each = space(AVX2, CONV, 2)
    assert {(tiling.rows, tiling.parts, tiling.parallel) for tiling in each.tiles()} == {
        (each.default.rows, each.default.parts, each.default.parallel)
    }
    assert {(tiling.pixels, tiling.vectors) for tiling in each.tasks()} == {
        (each.default.pixels, each.default.vectors)
    }
    assert len({tiling.vectors for tiling in each.tiles()}) == 6
    assert {tiling.steps for tiling in each.tiles()} == {1, 2, 4}
    assert {tiling.parallel for tiling in each.tasks()} == {False, True}


def test_a_packed_weight_keeps_its_width() -> None:
    each = space(AVX2, CONV, 1, vectors=2)
    assert {tiling.vectors for tiling in each.tilings()} == {2}


def test_products_are_shared_by_their_rows() -> None:
    nest = Nest(AVX2, Geometry(1, 64, 1, 64, 64), True, PRODUCT)
    tasks = Space(nest, Tiling(5, 2, 64, 1, parallel=False), 2).tasks()
    assert any(tiling.parallel and tiling.rows == 32 for tiling in tasks)
    assert {tiling.parts for tiling in tasks} == {1}


def test_a_tile_is_put_into_other_tasks() -> None:
    a, b = Tiling(5, 2, 28, 1, parallel=False, steps=2), Tiling(3, 4, 14, 2)
    assert with_tile(b, a) == replace(b, pixels=5, vectors=2, steps=2)
