from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from tersor.hardware import Compute, Hardware, Memory
from tersor.layer import Layer
from tersor.mapping import Loop, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.mapper.search import Search
from tersor.targets.accelerator.mapper.space import Space

# 7 fits neither twice into 8 bytes nor evenly into tiles of 4.
TINY = Hardware(
    "tiny", 1e9, (Compute("int8", 1),), (Memory("dram", 1 << 20, 1e9), Memory("buffer", 24, 1e12))
)
LAYER = Layer("fc", "matmul", N=7, K=6)
MACHINES = Path(__file__).parents[4] / "targets" / "machines"
CONV = Layer("conv", "conv2d", K=32, C=16, P=14, Q=14, R=3, S=3, padding=(1, 1, 1, 1))


def test_ragged_sizes_are_the_smallest_for_their_number_of_tiles() -> None:
    chains = Space(LAYER, TINY).choices.ways["N"]
    assert set(map(tuple, chains.T.tolist())) == {(7, 1), (4, 2), (3, 3), (2, 4), (1, 7)}


def test_without_ragged_tiles_sizes_multiply_to_those_of_the_layer() -> None:
    space = Space(LAYER, TINY, ragged=False)
    assert space.size_count == space.choices.count
    for dim, chains in space.choices.ways.items():
        np.testing.assert_array_equal(chains.prod(axis=0), LAYER.size(dim))


def test_the_mapper_leaves_no_rest_if_asked_to() -> None:
    for mapped in Mapper(TINY, ragged=False).map(LAYER).front:
        for dim in "NK":
            made = prod(loop.size for loop in mapped.mapping.loops if loop.dim == dim)
            assert made == LAYER.size(dim)


@pytest.mark.parametrize("machine", ["edge", "bit_fusion", "eyeriss"])
@pytest.mark.parametrize("layer", [CONV, replace(CONV, G=4), LAYER], ids=["conv", "groups", "dense"])
def test_a_mapping_is_found_again_where_it_was_taken_from(machine: str, layer: Layer) -> None:
    space = Space(layer, Hardware.load(MACHINES / f"{machine}.toml"))
    random = np.random.default_rng(0)
    for _ in range(50):
        frame = tuple(levels[random.integers(len(levels))] for levels in space.levels)
        digits = np.array([[random.integers(ways.shape[1])] for ways in space.promising.ways.values()])
        nest, rows = space.nest(frame)
        mapping = nest.mapping(space.promising.sizes(digits)[rows][:, 0])
        found = space.placed(mapping)
        assert found is not None
        np.testing.assert_array_equal(space.promising.digits(found[1]), digits)
        nest, rows = space.nest(found[0])
        again = nest.mapping(found[1][rows][:, 0])
        assert again.loops == mapping.loops
        assert set(again.keep) == set(mapping.keep)


def test_what_a_space_has_not_is_not_found_there() -> None:
    space = Space(LAYER, TINY)
    nest, rows = space.nest(tuple(levels[0] for levels in space.levels))
    keep = nest.mapping(np.ones(len(rows))).keep
    for loops in ((Loop("N", 7, "cache"),), (Loop("N", 7, "dram"), Loop("N", 2, "dram"))):
        assert space.placed(Mapping(loops, keep)) is None
    assert space.placed(Mapping((Loop("N", 7, "dram"),), ())) is None
    five = space.placed(Mapping((Loop("N", 5, "dram"), Loop("N", 2, "buffer")), keep))
    assert five is None or space.choices.digits(five[1]) is None


@pytest.mark.parametrize("machine", ["edge", "bit_fusion", "eyeriss"])
def test_what_passes_a_memory_by_is_found_whatever_order_of_loops_is_listed(machine: str) -> None:
    space = Space(CONV, Hardware.load(MACHINES / f"{machine}.toml"))
    search = Search(space, space.promising, INT8, DENSE)
    random = np.random.default_rng(0)
    ways = [each.shape[1] for each in space.promising.ways.values()]
    digits = np.stack([random.integers(count, size=4096) for count in ways])
    same = 0
    for _ in range(20):
        frame = [levels[random.integers(len(levels))] for levels in space.levels]
        level = int(random.integers(1, len(frame)))
        here = frame[level]
        others = space.passing_by(level, here)
        assert all(other in space.levels[level] for other in others)
        assert {other.keeps for other in others} == {
            tuple(each for each in here.keeps if each != kept) for kept in here.keeps
        }
        for other in others:
            # Where loops of one iteration are innermost, the order of the others matters, too.
            nest, rows = space.nest(tuple(frame))
            at = [nest.loops[place][1] == space.hardware.memories[level].name for place in range(len(rows))]
            full = digits[:, (space.promising.sizes(digits)[rows][at] > 1).all(axis=0)]
            listed, as_here = (
                search.score((*frame[:level], each, *frame[level + 1 :]), full)
                for each in (other, replace(here, keeps=other.keeps))
            )
            np.testing.assert_array_equal(listed, as_here)
            same += int(np.isfinite(listed[0]).sum())
    assert same
