from itertools import pairwise

import numpy as np
import pytest

from tersor.factor import TensorTrain, parse_factor, why_no_factor
from tersor.layer import Layer

FILTER = Layer(
    "w", "conv2d", K=64, C=32, P=8, Q=9, R=3, S=3, stride=(2, 1), padding=(1, 0, 1, 2), dilation=(1, 2)
)


def shapes(layer: Layer, text: str) -> list[tuple[str, tuple[int, ...]]]:
    factor = parse_factor(text)
    assert factor
    return [(part.name, part.weight_shape) for part in layer.factored(factor)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rank16", [(16, 32, 3, 3), (64, 16, 1, 1)]),
        ("spatial16", [(16, 32, 3, 1), (64, 16, 1, 3)]),
        ("filtergroups4", [(64, 8, 3, 3), (64, 64, 1, 1)]),
        ("tucker8x16", [(8, 32, 1, 1), (16, 8, 3, 3), (64, 16, 1, 1)]),
        ("cp24", [(24, 32, 1, 1), (24, 1, 3, 1), (24, 1, 1, 3), (64, 24, 1, 1)]),
    ],
)
def test_a_convolution_becomes_a_chain(text: str, expected: list[tuple[int, ...]]) -> None:
    assert shapes(FILTER, text) == [(f"w.{place}", shape) for place, shape in enumerate(expected)]


def test_each_direction_walks_pads_and_dilates_by_itself() -> None:
    spatial = parse_factor("spatial16")
    assert spatial
    columns, rows = FILTER.factored(spatial)
    assert (columns.stride, columns.padding, columns.dilation) == ((2, 1), (1, 0, 1, 0), (1, 1))
    assert (rows.stride, rows.padding, rows.dilation) == ((1, 1), (0, 0, 0, 2), (1, 2))
    assert columns.output_count == rows.input_count
    assert columns.input_count == FILTER.input_count
    assert rows.output_count == FILTER.output_count


@pytest.mark.parametrize("text", ["rank8", "spatial8", "filtergroups2", "tucker8x8", "cp8"])
def test_every_layer_of_a_chain_reads_what_the_one_before_gives(text: str) -> None:
    factor = parse_factor(text)
    assert factor
    parts = FILTER.factored(factor)
    assert parts[0].input_count == FILTER.input_count
    assert parts[-1].output_count == FILTER.output_count
    for before, after in pairwise(parts):
        assert before.output_count == after.input_count


@pytest.mark.parametrize(("inputs", "outputs"), [(768, 1024), (512, 10000), (64, 96), (4096, 4096)])
def test_the_modes_of_a_tensor_train_multiply_to_the_sizes(inputs: int, outputs: int) -> None:
    train = TensorTrain(8).train(inputs, outputs)
    assert (np.prod(train.inputs), np.prod(train.outputs)) == (inputs, outputs)
    assert (train.ranks[0], train.ranks[-1]) == (1, 1)
    layers = Layer("w", "matmul", N=3, C=inputs, K=outputs).factored(TensorTrain(8))
    assert sum(layer.macs for layer in layers) == 3 * train.macs
    assert layers[0].input_count == 3 * inputs
    assert layers[-1].output_count == 3 * outputs


@pytest.mark.parametrize(
    ("layer", "text", "reason"),
    [
        (FILTER, "rank64", "multiply 1.22 times as much"),
        (FILTER, "rank65", "the rank 65 is above 64"),
        (FILTER, "spatial200", "spatial rank 200 is above 96"),
        (FILTER, "tucker4x40", "rank of the outputs 40 is above 36"),
        (FILTER, "tt4", "only dense layers become tensor trains, this is a 3x3 convolution"),
        (Layer("w", "matmul", K=10, C=64), "tt4", "have no two factors of 4 or more"),
        (Layer("w", "matmul", K=64, C=64), "spatial4", "this is a dense layer"),
        (Layer("w", "conv2d", K=64, C=64, P=8, Q=8), "tucker8x8", "this is a 1x1 convolution"),
        (Layer("w", "conv2d", G=4, K=16, C=16, P=8, Q=8, R=3, S=3), "rank4", "this has 4"),
        (Layer("w", "gather", N=4, K=16, C=100), "rank4", "this is a table"),
        (Layer("w", "matmul", N=4, K=64, C=64, recurrent=True), "rank4", "this is a recurrent layer"),
        (Layer("w", "matmul", N=4, K=64, C=64, weight_bearing=False), "rank4", "has no weight to factor"),
    ],
)
def test_what_makes_no_sense_has_a_reason(layer: Layer, text: str, reason: str) -> None:
    factor = parse_factor(text)
    assert factor
    assert reason in (why_no_factor(layer, factor) or "")


def test_what_multiplies_less_is_allowed() -> None:
    for text in ("rank32", "spatial32", "filtergroups4", "tucker16x16", "cp32"):
        factor = parse_factor(text)
        assert factor
        assert why_no_factor(FILTER, factor) is None
