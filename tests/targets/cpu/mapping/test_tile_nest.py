"""A tiling of tiles and its mapping say the same, and what says nothing a kernel does is refused."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.mapping import Keep, Loop, Mapping
from tersor.targets.cpu.host.isa import AMX
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import DENSE
from tersor.targets.cpu.mapping.tile_nest import TileNest
from tersor.targets.cpu.mapping.tile_tiling import default_tile_tiling
from tests.quantized_layers import draw

CONV = TileNest(Geometry(1, 28, 28, 128, 128, (3, 3), padding=(1, 1, 1, 1)))
MATMUL = TileNest(Geometry(1, 1, 48, 384, 100), DENSE)
GROUPED = TileNest(Geometry(2, 9, 9, 128, 96, (3, 3), dilation=(1, 2), groups=2))

tilings = st.builds(
    Tiling, st.integers(0, 5), st.integers(1, 5), st.integers(1, 28), st.integers(1, 5), st.booleans()
)


def test_a_tiling_reads_as_a_loop_nest() -> None:
    assert str(CONV.mapping(Tiling(2, 2, 14, 1))) == (
        "P=2@cores, K=4@cache, R=3@cache, Q=14@cache, C=6@cache, "
        "Q=2@registers, K=2@registers, Q=16@lanes, K=16@lanes, C=64@lanes"
    )
    assert str(MATMUL.mapping(Tiling(3, 1, 1, 2))) == (
        "K=2@cores, K=4@cache, C=6@cache, N=3@registers, N=16@lanes, K=16@lanes, C=64@lanes"
    )
    assert str(GROUPED.mapping(Tiling(2, 1, 7, 1, parallel=False))) == (
        "N=2@dram, G=2@cache, K=3@cache, Q=2@cache, R=3@cache, S=3@cache, "
        "Q=2@registers, Q=15@lanes, K=16@lanes, C=64@lanes"
    )


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.sampled_from([CONV, MATMUL, GROUPED]), tilings)
def test_a_tiling_is_refused_or_comes_back_from_its_mapping(nest: TileNest, tiling: Tiling) -> None:
    if nest.why_not(tiling) is None:
        assert nest.tiling(nest.mapping(tiling)) == tiling


@pytest.mark.parametrize("cores", [1, 2, 7])
def test_the_analytic_tilings_are_mappings(cores: int) -> None:
    for seed in range(60):
        g = draw(seed).geometry
        if not g.is_depthwise:
            nest, tiling = TileNest(g), default_tile_tiling(AMX, g, cores)
            assert nest.why_not(tiling) is None, (g, tiling)
            assert nest.tiling(nest.mapping(tiling)) == tiling


@pytest.mark.parametrize(
    ("tiling", "reason"),
    [
        (Tiling(0, 1, 28, 1), "at least one iteration"),
        (Tiling(2, 3, 28, 1), "2 x 3 tiles need 9 of 8 registers"),
        (Tiling(1, 9, 28, 1), "8 tiles of output channels, fewer than 9"),
        (Tiling(60, 1, 28, 1), "53 tiles of pixels, fewer than 60"),
        (Tiling(1, 1, 13, 1), "13 of 28 rows are no even share"),
        (Tiling(2, 2, 28, 5), "do not make 5 tasks"),
        (Tiling(2, 2, 28, 1, parallel=False, steps=2), "not written out"),
        (Tiling(2, 2, 28, 1), "one task is not shared"),
    ],
)
def test_what_no_kernel_does_is_refused(tiling: Tiling, reason: str) -> None:
    assert reason in str(CONV.why_not(tiling))


def test_loops_that_are_no_kernels_are_refused_with_those_that_are() -> None:
    own = CONV.mapping(Tiling(2, 2, 14, 1))
    for mapping, reason in (
        (replace(own, loops=own.loops[:-1]), "the loops are P=2@cores, K=4@cache"),
        (replace(own, loops=(*own.loops, Loop("C", 2, "buffer"))), "not at 'buffer'"),
        (Mapping(own.loops, (Keep("weight", "cache"),)), "leave `keep` empty"),
    ):
        with pytest.raises(ValueError, match=reason):
            CONV.tiling(mapping)
