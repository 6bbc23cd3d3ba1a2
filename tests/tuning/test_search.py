"""The search tries the unknown, then what the known promises, and ends where nothing is promised."""

from dataclasses import replace

from tersor.targets.cpu.host.isa import AVX2
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import Nest
from tersor.targets.cpu.mapping.space import Space
from tersor.targets.cpu.mapping.tiling import default_tiling
from tersor.tuning.search import MARGIN, Search, fastest

G = Geometry(1, 28, 28, 64, 64, (3, 3), padding=(1, 1, 1, 1))
SPACE = Space(Nest(AVX2, G, True), default_tiling(AVX2, G, 1, True), 1)
SINGLES = {*SPACE.tiles()[1:], *SPACE.tasks()[1:]}


def course(search: Search, ratio_of: dict[Tiling, float]) -> list[Tiling]:
    """Measure until the search ends; what is not in `ratio_of` is slow."""
    ratios: dict[Tiling, float] = {}
    while (tiling := search.next(ratios)) is not None:
        assert tiling not in ratios
        ratios[tiling] = ratio_of.get(tiling, 1.5)
    return list(ratios)


def test_every_tile_and_every_way_to_make_tasks_is_tried_once() -> None:
    assert set(course(Search(SPACE), {})) == SINGLES


def test_the_seed_says_in_which_order() -> None:
    assert course(Search(SPACE, 1), {}) == course(Search(SPACE, 1), {})
    assert course(Search(SPACE, 1), {}) != course(Search(SPACE, 2), {})


def test_two_that_are_faster_alone_are_tried_together() -> None:
    tile, tasks = SPACE.tiles()[3], SPACE.tasks()[2]
    both = replace(tasks, pixels=tile.pixels, vectors=tile.vectors)
    tried = course(Search(SPACE), {tile: 0.8, tasks: 0.9, both: 0.75})
    assert tried[len(SINGLES) :] == [both]


def test_the_fastest_is_faster_beyond_noise() -> None:
    a, b = SPACE.tiles()[1:3]
    assert fastest({}) is None
    assert fastest({a: 1 - MARGIN / 2, b: 1.2}) is None
    assert fastest({a: 0.9, b: 0.8}) == b
