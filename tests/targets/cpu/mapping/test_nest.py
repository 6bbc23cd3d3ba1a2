"""A tiling and its mapping say the same, and what says nothing a kernel does is refused."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.layer import DIMS
from tersor.mapping import Keep, Loop, Mapping
from tersor.targets.cpu.host.isa import AVX2, AVX512, ISAS, Isa
from tersor.targets.cpu.kernels.depthwise import default_depthwise_tiling
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import DENSE, PRODUCT, Nest
from tersor.targets.cpu.mapping.tiling import default_tiling
from tests.quantized_layers import draw

CONV = Nest(AVX2, Geometry(1, 56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1)), integer=True)
DEPTHWISE = Nest(AVX2, Geometry(2, 14, 14, 40, 40, (3, 3), padding=(1, 1, 1, 1), groups=40), integer=True)
MATMUL = Nest(AVX2, Geometry(1, 1, 48, 384, 100), integer=False, axes=DENSE)
ATTENTION = Nest(AVX2, Geometry(12, 32, 1, 32, 32), integer=True, axes=PRODUCT)
NESTS = [CONV, DEPTHWISE, MATMUL, ATTENTION]

tilings = st.builds(
    Tiling,
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(1, 56),
    st.integers(1, 8),
    st.booleans(),
    st.integers(1, 4),
)


def parsed(text: str) -> Mapping:
    return Mapping(tuple(Loop.parse(each) for each in text.split(", ")))


def test_a_tiling_reads_as_a_loop_nest() -> None:
    assert str(CONV.mapping(Tiling(5, 2, 7, 1))) == (
        "P=8@cores, K=4@cache, Q=79@cache, R=3@cache, C=96@cache, "
        "Q=5@registers, K=2@registers, K=8@lanes, C=2@lanes"
    )
    assert str(DEPTHWISE.mapping(Tiling(7, 2, 7, 1, parallel=False))) == (
        "N=2@dram, P=2@dram, K=3@cache, P=7@cache, Q=2@cache, R=2@cache, S=3@cache, "
        "Q=7@registers, K=2@registers, K=8@lanes, R=2@lanes"
    )
    assert str(MATMUL.mapping(Tiling(6, 2, 1, 2))) == (
        "K=2@cores, K=4@cache, N=8@cache, C=384@cache, N=6@registers, K=2@registers, K=8@lanes"
    )
    assert str(MATMUL.mapping(Tiling(6, 2, 1, 1, parallel=False, steps=4))) == (
        "K=7@cache, N=8@cache, C=96@cache, N=6@registers, K=2@registers, C=4@registers, K=8@lanes"
    )
    assert str(ATTENTION.mapping(Tiling(6, 2, 16, 1))) == (
        "G=12@cores, N=2@cores, K=2@cache, N=3@cache, C=16@cache, "
        "N=6@registers, K=2@registers, K=8@lanes, C=2@lanes"
    )


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.sampled_from(NESTS), tilings)
def test_a_tiling_is_refused_or_comes_back_from_its_mapping(nest: Nest, tiling: Tiling) -> None:
    if nest.why_not(tiling) is None:
        assert nest.tiling(nest.mapping(tiling)) == tiling


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("cores", [1, 2, 7])
def test_the_analytic_tilings_are_mappings(isa: Isa, cores: int) -> None:
    for seed in range(60):
        g = draw(seed).geometry
        for integer in (False, True):
            nest = Nest(isa, g, integer)
            choose = default_depthwise_tiling if g.is_depthwise else default_tiling
            tiling = choose(isa, g, cores, integer)
            assert nest.why_not(tiling) is None, (g, tiling)
            assert nest.tiling(nest.mapping(tiling)) == tiling


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.sampled_from(NESTS), tilings)
def test_the_loops_cover_the_layer(nest: Nest, tiling: Tiling) -> None:
    if nest.why_not(tiling) is not None:
        return
    made = dict.fromkeys(DIMS, 1)
    for loop in nest.mapping(tiling).loops:
        made[loop.dim] *= loop.size
    g = nest.geometry
    images_and_pixels = g.batch * g.out_height * g.out_width
    assert made["N"] * made["P"] * made["Q"] * (made["G"] if nest is ATTENTION else 1) >= images_and_pixels
    assert made["K"] >= g.outputs
    assert made["C"] * made["R"] * made["S"] >= g.depth * g.window[0] * g.window[1]


@pytest.mark.parametrize(
    ("nest", "text", "reason"),
    [
        (
            CONV,
            "P=8@rows, K=4@cache",
            "a CPU has loops at cores, dram, cache, registers, lanes, not at 'rows'",
        ),
        (CONV, "Q=8@registers, K=2@registers", "a tile of 8x2 vectors leaves none of 16 registers free"),
        (CONV, "P=60@cores", "with its tasks and its tile in registers the loops are P=56@cores"),
        (CONV, "K=9@cores", "its output channels do not make 9 tasks"),
        (CONV, "K=9@registers", "it has 8 vectors of 8 output channels, fewer than 9"),
        (CONV, "C=5@registers", "its 96 steps over a run of inputs are no multiple of 5"),
        (DEPTHWISE, "C=2@registers", "its 1 steps over a run of inputs are no multiple of 2"),
        (DEPTHWISE, "K=2@cores", "its output channels do not make 2 tasks"),
        (DEPTHWISE, "Q=15@registers, K=1@registers", "a task has 14 pixels in a row of tiles, fewer than 15"),
        (ATTENTION, "K=2@cores", "its output channels do not make 2 tasks"),
        (MATMUL, "N=6@registers, K=2@registers", "the loops are K=7@cache, N=8@cache, C=384@cache"),
    ],
)
def test_what_no_kernel_does_is_refused_in_a_sentence(nest: Nest, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{reason}"):
        nest.tiling(parsed(text))


def test_a_mapping_for_other_vectors_is_refused() -> None:
    mapping = CONV.mapping(Tiling(5, 2, 7, 1))
    with pytest.raises(ValueError, match="the loops are"):
        replace(CONV, isa=AVX512).tiling(mapping)
    with pytest.raises(ValueError, match="leave `keep` empty"):
        CONV.tiling(replace(mapping, keep=(Keep("input", "cache"),)))


def test_one_task_is_not_shared() -> None:
    assert CONV.why_not(Tiling(5, 2, 56, 1, parallel=True)) == "one task is not shared among cores"
    assert CONV.why_not(Tiling(5, 2, 56, 1, parallel=False)) is None
