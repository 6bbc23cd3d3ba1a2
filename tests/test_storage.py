import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tersor.layer import Layer
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.sparsity import NM
from tersor.storage import (
    decode_nm,
    encode_nm,
    index_bits,
    pack_bits,
    packed_length,
    storage_bytes,
    unpack_bits,
)

SPARSITIES = [(2, 4), (1, 4), (1, 2), (4, 8), (3, 16)]


@given(st.data(), st.sampled_from([2, 4]), st.booleans())
def test_packed_bits_unpack_to_themselves(data: st.DataObject, bits: int, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    shape = data.draw(array_shapes(max_dims=3, max_side=9))
    codes = data.draw(arrays(np.int8, shape, elements=st.integers(low, high)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    packed = pack_bits(codes, bits, axis, signed)
    assert packed.dtype == np.uint8
    assert packed.shape[axis] == packed_length(shape[axis], bits)
    assert np.array_equal(unpack_bits(packed, bits, shape[axis], axis, signed), codes)


def test_the_first_code_lies_in_the_lowest_bits() -> None:
    assert pack_bits(np.array([1, -1, 0, -2], np.int8), 4).tolist() == [0xF1, 0xE0]
    assert pack_bits(np.array([1, -1, 0, -2, 1], np.int8), 2).tolist() == [0b10_00_11_01, 0b01]


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4-bit codes are -8 to 7, got -8 to 8"):
        pack_bits(np.array([-8, 8], np.int8), 4)
    with pytest.raises(ValueError, match="2 or 4 bits are packed, got 3"):
        pack_bits(np.array([0], np.int8), 3)
    with pytest.raises(ValueError, match="5 codes of 4 bits are 3 bytes, got 2"):
        unpack_bits(np.zeros(2, np.uint8), 4, 5)


def thinned(codes: np.ndarray, n: int, m: int, axis: int) -> np.ndarray:
    """Zeros in all but `n` places of every `m`, other places in each group."""
    rows = np.moveaxis(codes, axis, 0).copy()
    order = np.random.default_rng(0).random(rows.reshape(-1, m, *rows.shape[1:]).shape).argsort(axis=1)
    rows[(order >= n).reshape(rows.shape)] = 0
    return np.moveaxis(rows, 0, axis)


@given(st.data(), st.sampled_from(SPARSITIES), st.sampled_from([0, 1]))
def test_encoded_sparse_codes_decode_to_themselves(
    data: st.DataObject, pattern: tuple[int, int], axis: int
) -> None:
    n, m = pattern
    shape = [data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))]
    shape[axis] *= m
    dense = data.draw(arrays(np.int8, tuple(shape), elements=st.integers(-127, 127)))
    codes = thinned(dense, n, m, axis)
    values, indices = encode_nm(codes, n, m, axis)
    kept = shape[axis] // m * n
    assert (values.dtype, indices.dtype) == (np.int8, np.uint8)
    assert values.shape[axis] == kept
    assert indices.shape[axis] == packed_length(kept, index_bits(NM(n, m)))
    assert np.array_equal(decode_nm(values, indices, n, m, axis), codes)


def test_positions_ascend_and_an_emptier_group_keeps_zeros() -> None:
    codes = np.array([[0, 5, 0, -3, 0, 0, 0, 7]], np.int8).T
    values, indices = encode_nm(codes, 2, 4)
    assert values[:, 0].tolist() == [5, -3, 0, 7]
    assert unpack_bits(indices, 2, 4, signed=False)[:, 0].tolist() == [1, 3, 0, 3]


def test_what_is_not_sparse_enough_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 2 nonzeros in 4, got a group with 3"):
        encode_nm(np.array([[1, 2, 3, 0]], np.int8).T, 2, 4)
    with pytest.raises(ValueError, match="a multiple of 4 input channels, got 6"):
        encode_nm(np.zeros((6, 1), np.int8), 2, 4)


def test_a_dense_layer_stores_codes_scales_and_a_bias() -> None:
    layer = Layer("fc", "matmul", N=7, K=10, C=64)
    assert storage_bytes(layer, FP32) == 4 * 640 + 4 * 10
    assert storage_bytes(layer, INT8) == 640 + 4 * 10 + 4 * 10
    assert storage_bytes(layer, INT8, bias=False) == 640 + 4 * 10
    assert storage_bytes(layer, Scheme.parse("int4")) == 320 + 80
    assert storage_bytes(layer, Scheme.parse("int8+rank8")) == (64 + 10) * 8 + 4 * 8 + 4 * 10 + 4 * 10


def test_a_grouped_convolution_stores_each_groups_filters() -> None:
    layer = Layer("conv", "conv2d", G=4, K=8, C=2, P=9, Q=9, R=3, S=3)
    assert storage_bytes(layer, INT8) == 4 * 8 * 2 * 9 + 4 * 32 + 4 * 32


def test_a_table_has_a_scale_for_each_row() -> None:
    assert storage_bytes(Layer("table", "gather", N=9, K=16, C=100), W8A32) == 100 * (16 + 4)
    assert storage_bytes(Layer("table", "gather", N=9, K=16, C=100), FP32) == 100 * 16 * 4


def test_a_computed_operand_is_not_stored() -> None:
    assert storage_bytes(Layer("attention", "matmul", K=8, C=8, weight_bearing=False), INT8) == 0


@pytest.mark.parametrize("pattern", SPARSITIES)
def test_the_closed_form_counts_what_the_encoder_makes(pattern: tuple[int, int]) -> None:
    n, m = pattern
    layer = Layer("fc", "matmul", K=6, C=48)
    scheme = Scheme.parse(f"int8+{n}:{m}")
    values, indices = encode_nm(thinned(np.ones((48, 6), np.int8), n, m, 0), n, m)
    assert storage_bytes(layer, scheme) == values.nbytes + indices.nbytes + 4 * 6 + 4 * 6


@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from([2, 4]))
def test_the_closed_form_counts_packed_bits(c: int, k: int, bits: int) -> None:
    layer = Layer("fc", "matmul", K=k, C=c)
    packed = pack_bits(np.zeros((c, k), np.int8), bits)
    assert storage_bytes(layer, Scheme.parse(f"int{bits}")) == packed.nbytes + 8 * k
