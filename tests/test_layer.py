from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.factor import LowRank
from tersor.layer import Layer

SIZE = st.integers(1, 12)


def test_a_matmul_is_n_k_c() -> None:
    layer = Layer("fc", "matmul", N=32, K=10, C=64)
    assert (layer.macs, layer.weight_shape, layer.weight_count) == (32 * 10 * 64, (64, 10), 640)
    assert (layer.input_count, layer.output_count) == (32 * 64, 32 * 10)


def test_a_batched_matmul_has_a_weight_for_each_of_the_batch() -> None:
    layer = Layer("attention", "matmul", N=16, G=12, K=16, C=32, weight_bearing=False)
    assert layer.weight_shape == (12, 32, 16)
    assert layer.macs == 12 * 16 * 16 * 32


def test_a_gather_reads_rows_of_a_table_and_multiplies_nothing() -> None:
    layer = Layer("table", "gather", N=32, K=384, C=30522)
    assert (layer.weight_shape, layer.macs) == ((30522, 384), 0)
    assert (layer.input_count, layer.output_count) == (32, 32 * 384)


def test_a_padded_convolution_reads_its_whole_input_once() -> None:
    layer = Layer("conv", "conv2d", K=64, C=3, P=56, Q=56, R=3, S=3, padding=(1, 1, 1, 1))
    assert layer.weight_shape == (64, 3, 3, 3)
    assert layer.input_count == 3 * 56 * 56
    assert layer.macs == 56 * 56 * 64 * 27


def test_stride_and_dilation_widen_the_input() -> None:
    strided = Layer("conv", "conv2d", K=1, C=1, P=5, Q=7, R=3, S=3, stride=(2, 1), dilation=(1, 2))
    assert strided.input_count == (4 * 2 + 3) * (6 + 2 * 2 + 1)


def test_a_depthwise_convolution_has_one_channel_per_group() -> None:
    layer = Layer("dw", "conv2d", G=32, P=8, Q=8, R=3, S=3)
    assert layer.is_depthwise
    assert layer.weight_shape == (32, 1, 3, 3)
    assert not Layer("conv", "conv2d", K=32, C=1, P=8, Q=8, R=3, S=3).is_depthwise


@given(SIZE, SIZE, SIZE, SIZE, SIZE, SIZE)
def test_the_weight_has_as_many_elements_as_its_shape(g: int, k: int, c: int, p: int, r: int, s: int) -> None:
    for layer in (
        Layer("a", "conv2d", G=g, K=k, C=c, P=p, R=r, S=s),
        Layer("b", "matmul", G=g, K=k, C=c, N=p),
    ):
        assert layer.weight_count == prod(layer.weight_shape)
        assert layer.macs * layer.G == layer.weight_count * layer.output_count // layer.K


def test_a_factored_layer_computes_the_same_output_in_two_steps() -> None:
    layer = Layer("conv", "conv2d", K=64, C=32, P=8, Q=8, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1))
    first, second = layer.factored(LowRank(16))
    assert (first.weight_shape, second.weight_shape) == ((16, 32, 3, 3), (64, 16, 1, 1))
    assert first.input_count == layer.input_count
    assert first.output_count == second.input_count
    assert second.output_count == layer.output_count


def test_equal_layers_are_one_key() -> None:
    assert len({Layer("fc", "matmul", K=2, C=3), Layer("fc", "matmul", K=2, C=3)}) == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"operator": "conv3d"}, "operator must be conv2d, matmul or gather, got 'conv3d'"),
        ({"K": 0}, "layer 'x': K must be at least 1, got 0"),
        ({"operator": "matmul", "R": 3}, "P = Q = R = S = 1, got P=1 Q=1 R=3 S=1"),
        ({"stride": (0, 1)}, r"stride needs 2 numbers >= 1, got \(0, 1\)"),
        ({"padding": (1, 1)}, r"padding needs 4 numbers >= 0, got \(1, 1\)"),
        ({"dilation": (0, 0)}, "dilation needs 2 numbers >= 1"),
    ],
)
def test_a_wrong_layer_says_which_number_is_wrong(wrong: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Layer(**{"name": "x", "operator": "conv2d"} | wrong)
