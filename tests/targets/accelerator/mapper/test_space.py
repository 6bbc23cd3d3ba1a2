from math import prod

import numpy as np

from tersor.hardware import Compute, Hardware, Memory
from tersor.layer import Layer
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.mapper.space import Space

# 7 fits neither twice into 8 bytes nor evenly into tiles of 4.
TINY = Hardware(
    "tiny", 1e9, (Compute("int8", 1),), (Memory("dram", 1 << 20, 1e9), Memory("buffer", 24, 1e12))
)
LAYER = Layer("fc", "matmul", N=7, K=6)


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
