"""Entropy coding: exact for any bytes, near the entropy, and a mistake in the data is an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tersor.formats.bits import pack_bits
from tersor.shipping.entropy import decode, encode, entropy_bytes

pytest.importorskip("constriction")
DTYPES = st.sampled_from(["u1", "i1", "<i4", "<f4", "<u2", "<i8"])


@settings(max_examples=60, deadline=None)
@given(
    DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20)))
)
def test_every_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    coded = encode(array)
    again = decode(coded.data, coded.coding, array.shape, array.dtype)
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert len(coded.data) <= array.nbytes


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_take_their_entropy(bits: int) -> None:
    random = np.random.default_rng(bits)
    codes = np.clip(np.rint(random.normal(size=(64, 999)) * 2**bits / 12) + 2 ** (bits - 1), 0, 2**bits - 1)
    if bits == 1:
        codes = (random.uniform(size=(64, 999)) < 0.1).astype(float)
    packed = pack_bits(codes.astype(np.uint8), bits)
    coded = encode(packed)
    assert int(coded.coding.removeprefix("bits")) % bits == 0  # neighbours may be coded together
    least = entropy_bytes(codes.astype(np.uint8))
    assert least < len(coded.data) < 1.01 * least + 4 * 2**bits
    assert coded.bound == pytest.approx(least, rel=0.02)
    assert np.array_equal(decode(coded.data, coded.coding, packed.shape, packed.dtype), packed)


def test_numbers_with_like_exponents_are_coded_byte_by_byte() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 4000).astype(np.float32)
    coded = encode(values)
    assert coded.coding == "planes"
    assert len(coded.data) < 0.8 * values.nbytes


def test_shared_weights_take_the_entropy_of_their_indices() -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=16).astype(np.float32)
    weights = table[random.integers(0, 16, (64, 100))] * (random.uniform(size=(64, 100)) < 0.2) + np.float32(
        0
    )
    coded = encode(weights)
    assert coded.coding == "levels"
    assert len(coded.data) < 1.05 * entropy_bytes(np.unique(weights, return_inverse=True)[1]) + 150
    assert decode(coded.data, "levels", weights.shape, weights.dtype).tobytes() == weights.tobytes()


def test_what_is_damaged_is_an_error() -> None:
    coded = encode(np.arange(1000, dtype=np.uint8).reshape(10, 100) % 3)
    for data in (b"", coded.data[:1], coded.data[:3]):
        with pytest.raises(ValueError, match=r"too early|frequencies"):
            decode(data, coded.coding, (10, 100), np.dtype("u1"))
    with pytest.raises(ValueError, match="no coding"):
        decode(coded.data, "bits9", (10, 100), np.dtype("u1"))
