from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tersor.layer import Layer
from tersor.scheduler.space import candidates, explore, ranks
from tersor.scheme import FP32, INT8, W8A32, Scheme

DENSE = Layer("fc", "matmul", N=1, K=512, C=512)
CONV = Layer("conv", "conv2d", K=64, C=64, P=8, Q=8, R=3, S=3)


def anything_goes(layer: Layer, scheme: Scheme) -> None:
    return None


def test_a_dense_layer_may_be_rounded_thinned_or_factored() -> None:
    legal = [str(scheme) for scheme in explore(DENSE, anything_goes).legal]
    assert legal == [
        "fp32",
        "int8",
        "int8+dynamic",
        "int8+2:4",
        "int8+rank48",
        "int8+rank112",
        "int8+rank176",
    ]


def test_a_table_is_only_stored_in_fewer_bits() -> None:
    assert candidates(Layer("table", "gather", N=8, K=16, C=100)) == (FP32, W8A32)


def test_two_activations_have_no_weight_to_thin_or_factor() -> None:
    assert candidates(Layer("matmul.0", "matmul", N=8, K=8, C=8, weight_bearing=False)) == (FP32, INT8)


def test_a_convolution_is_thinned_along_its_channels_or_the_reason_is_kept() -> None:
    assert [str(scheme) for scheme in explore(CONV, anything_goes).legal] == ["fp32", "int8", "int8+2:4"]
    space = explore(replace(CONV, C=3), anything_goes)
    assert [str(scheme) for scheme in space.legal] == ["fp32", "int8"]
    assert [(str(s), why) for s, why in space.refused] == [
        ("int8+2:4", "2:4 sparsity needs a multiple of 4 inputs, got 3")
    ]


def test_the_targets_refusals_are_kept_with_their_reasons() -> None:
    def only_float(layer: Layer, scheme: Scheme) -> str | None:
        return None if scheme.compute == "fp32" else f"{layer.name}: no {scheme.compute}"

    space = explore(DENSE, only_float)
    assert [str(scheme) for scheme in space.legal] == ["fp32"]
    assert {why for _, why in space.refused} == {"fc: no int8"}


def test_inputs_that_four_does_not_divide_are_not_thinned() -> None:
    space = explore(Layer("fc", "matmul", K=8, C=10), anything_goes)
    assert space.refused == ((Scheme.parse("int8+2:4"), "2:4 sparsity needs a multiple of 4 inputs, got 10"),)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_factors_are_smaller_than_the_weight(c: int, k: int) -> None:
    for rank in ranks(Layer("fc", "matmul", K=k, C=c)):
        assert rank * (c + k) < c * k
        assert rank % 16 == 0


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_every_candidate_is_legal_or_refused(c: int, k: int) -> None:
    layer = Layer("fc", "matmul", K=k, C=c)
    space = explore(layer, anything_goes)
    assert {*space.legal, *(scheme for scheme, _ in space.refused)} == set(candidates(layer))
