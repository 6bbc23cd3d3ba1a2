import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.formats.bits import pack_bits, packed_length, unpack_bits
from tersor.formats.encoded import Encoded, encode
from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of, weight_of
from tersor.formats.placement import expected, place
from tersor.formats.size import reads_codes, stored_bytes
from tersor.layer import Layer
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.sparsity import NM, Block, Sparsity, Unstructured

PRECISIONS = [
    "int8", "w4a8", "w3a8", "w2a8", "w5a8", "w7a8", "w4g8a8", "w3g16a8", "w4a32", "w3g8", "w8g16",
    "ternary-a8", "ternaryg8", "binary-a8", "binaryg8", "codebook4-a8", "codebook8-a8", "codebook4",
    "codebook3", "pot4-a8", "pot3g8", "pot2", "fp16", "bf16", "e4m3", "e5m2", "mxfp4", "mxint8", "fp32",
]  # fmt: skip
PATTERNS = [
    "",
    "+2:4",
    "+1:4",
    "+4:8",
    "+3:16",
    "+block4x8-50",
    "+block2x1-75",
    "+sparse50",
    "+sparse90",
    "+sparse99",
]
SCHEMES = [
    Scheme.parse(precision + pattern)
    for precision in PRECISIONS
    for pattern in PATTERNS
    if not (pattern and precision.startswith("binary"))
]


def thinned(matrix: np.ndarray, sparsity: Sparsity | None, generator: np.random.Generator) -> np.ndarray:
    """Zeros in the pattern of `sparsity`, anywhere."""
    rows, columns = matrix.shape
    match sparsity:
        case NM(n, m):
            order = generator.random((rows, columns // m, m)).argsort(axis=2)
            return matrix * (order < n).reshape(rows, columns)
        case Block(outputs, inputs):
            kept = generator.random((rows // outputs, columns // inputs)) < sparsity.density
            return matrix * kept.repeat(outputs, axis=0).repeat(inputs, axis=1)
        case Unstructured():
            return matrix * (generator.random(matrix.shape) < sparsity.density)
        case _:
            return matrix


def encoded(layer: Layer, scheme: Scheme, seed: int = 0, axis: int = 0) -> tuple[np.ndarray, Encoded]:
    """The rounded weight of a layer, in its own shape, and how it is stored."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(0, 0.3, layer.weight_shape).astype(np.float32)
    matrix = thinned(matrix_of(weight, axis), scheme.sparsity, generator)
    grid = fit(matrix, scheme.weight, reads_codes(scheme, layer.operator == "gather"), "mse")
    numbers = grid.nearest(matrix)
    stored = encode(numbers, grid, scheme.sparsity, weight.shape, axis)
    return weight_of(numbers, weight.shape, axis), stored


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_what_is_stored_decodes_to_itself_and_takes_the_bytes_of_the_closed_form(scheme: Scheme) -> None:
    convolution = Layer("conv", "conv2d", G=2, K=4, C=16, P=5, Q=5, R=3, S=3)
    for layer, axis in ((convolution, 0), (Layer("fc", "matmul", N=3, K=12, C=48), 1)):
        numbers, stored = encoded(layer, scheme, axis=axis)
        assert np.array_equal(stored.numbers(), numbers)
        assert stored.decode().shape == layer.weight_shape
        assert stored.decode().dtype == (np.float32 if stored.scale is None else np.int8)
        assert stored.nbytes == stored_bytes(layer, scheme, bias=False, kept=stored.kept)


@settings(max_examples=60)
@given(
    scheme=st.sampled_from(SCHEMES),
    seed=st.integers(0, 99),
    k=st.integers(1, 3),
    c=st.integers(1, 3),
    r=st.integers(1, 3),
)
def test_weights_of_any_size_decode_to_themselves(scheme: Scheme, seed: int, k: int, c: int, r: int) -> None:
    layer = Layer("conv", "conv2d", K=4 * k, C=16 * c, R=r, S=1)
    numbers, stored = encoded(layer, scheme, seed)
    assert np.array_equal(stored.numbers(), numbers)
    assert stored.nbytes == stored_bytes(layer, scheme, bias=False, kept=stored.kept)


@given(st.integers(1, 37), st.sampled_from([s for s in SCHEMES if s.sparsity is None]))
def test_rows_of_any_length_decode_to_themselves(columns: int, scheme: Scheme) -> None:
    layer = Layer("table", "gather", K=columns, C=5)
    numbers, stored = encoded(layer, scheme)
    assert np.array_equal(stored.numbers(), numbers)
    assert stored.nbytes == stored_bytes(layer, scheme)


@pytest.mark.parametrize("bits", range(1, 9))
@given(data=st.data(), count=st.integers(1, 40), signed=st.booleans())
def test_packed_codes_unpack_to_themselves(bits: int, data: st.DataObject, count: int, signed: bool) -> None:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    codes = data.draw(st.lists(st.integers(low, high), min_size=2 * count, max_size=2 * count))
    matrix = np.array(codes, np.int16 if signed else np.uint8).reshape(2, count)
    packed = pack_bits(matrix, bits)
    assert packed.shape == (2, packed_length(count, bits))
    assert np.array_equal(unpack_bits(packed, bits, count, signed), matrix)


def test_the_first_code_lies_in_the_lowest_bits() -> None:
    assert pack_bits(np.array([[1, -1, 0, -2]]), 4).tolist() == [[0xF1, 0xE0]]
    assert pack_bits(np.array([[1, 2, 7, 0, 5, 0, 0, 0]], np.uint8), 3).tolist() == [
        [0b11_010_001, 0b0_101_000_1, 0]
    ]


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4-bit codes are -8 to 7, got -8 to 8"):
        pack_bits(np.array([[-8, 8]]), 4)
    with pytest.raises(ValueError, match="5 codes of 3 bits are 2 bytes, got 3"):
        unpack_bits(np.zeros((1, 3), np.uint8), 3, 5, signed=True)


@pytest.mark.parametrize(
    ("name", "dtype"), [("e4m3", ml_dtypes.float8_e4m3fn), ("e5m2", ml_dtypes.float8_e5m2)]
)
def test_bytes_of_floating_point_are_those_of_the_standard(name: str, dtype: type) -> None:
    _, stored = encoded(Layer("fc", "matmul", K=4, C=8), Scheme.parse(name), axis=1)
    values = stored.arrays["values"].view(dtype).astype(np.float32) * stored.arrays["scales"]
    assert np.array_equal(values.T, stored.decode())


def test_few_entries_are_stored_by_gaps_and_many_by_a_bitmap() -> None:
    layer = Layer("fc", "matmul", K=16, C=256)
    _, some = encoded(layer, Scheme.parse("int8+sparse50"), axis=1)
    _, few = encoded(layer, Scheme.parse("int8+sparse97"), axis=1)
    assert "mask" in some.arrays
    assert "mask" not in few.arrays
    assert few.nbytes < some.nbytes / 6


def test_a_gap_that_is_too_wide_is_bridged_by_stored_zeros() -> None:
    matrix = np.zeros((2, 3000), np.float32)
    matrix[0, [5, 2999]], matrix[1, 0] = (1, 2), 3
    grid = fit(matrix, None, integer=False)
    stored = encode(matrix, grid, Unstructured(99), (2, 3000))
    assert stored.kept is not None
    assert stored.kept.entries > 3
    assert np.array_equal(stored.decode(), matrix)


def test_a_weight_of_zeros_is_stored() -> None:
    for text in ("int8+sparse90", "codebook4+sparse90", "w4a8+2:4", "fp32+block4x8-50", "mxfp4"):
        scheme = Scheme.parse(text)
        matrix = np.zeros((4, 16), np.float32)
        grid = fit(matrix, scheme.weight, reads_codes(scheme, False))
        assert not encode(grid.nearest(matrix), grid, scheme.sparsity, (4, 16)).decode().any()


def test_what_does_not_have_the_pattern_is_refused() -> None:
    codes, no_zeros = np.ones((4, 8), np.int8), np.zeros((4, 8), np.bool_)
    with pytest.raises(ValueError, match="at most 2 nonzeros in 4, got a group with 4"):
        place(codes, no_zeros, NM(2, 4), 8)
    with pytest.raises(ValueError, match="a multiple of 3 columns, got 8"):
        place(codes, no_zeros, NM(1, 3), 8)
    with pytest.raises(ValueError, match="do not divide a matrix of 4x8"):
        place(codes, no_zeros, Block(4, 3, 50), 8)
    matrix = np.array([[0.0, 1.0]], np.float32)
    grid = fit(matrix, Scheme.parse("binary").weight, integer=True)
    with pytest.raises(ValueError, match="binary weights have no zero"):
        encode(grid.nearest(matrix), grid, Unstructured(50), (1, 2))
    with pytest.raises(ValueError, match="not on its grid"):
        encode(matrix + 0.3, fit(matrix, Scheme.parse("w4a8").weight, integer=True), None, (1, 2))


@pytest.mark.parametrize("text", ["sparse50", "sparse90", "sparse97", "block4x8-50", "2:4"])
def test_the_expected_size_is_near_that_of_zeros_anywhere(text: str) -> None:
    layer, scheme = Layer("fc", "matmul", K=64, C=512), Scheme.parse(f"int8+{text}")
    _, stored = encoded(layer, scheme, axis=1)
    assert stored_bytes(layer, scheme, bias=False) == pytest.approx(stored.nbytes, rel=0.05)
    assert scheme.sparsity
    assert expected((64, 512), scheme.sparsity, 8).entries > 0


def test_a_dense_layer_stores_codes_scales_and_a_bias() -> None:
    layer = Layer("fc", "matmul", N=7, K=10, C=64)
    assert stored_bytes(layer, FP32) == 4 * 640 + 4 * 10
    assert stored_bytes(layer, INT8) == 640 + 4 * 10 + 4 * 10
    assert stored_bytes(layer, INT8, bias=False) == 640 + 4 * 10
    assert stored_bytes(layer, Scheme.parse("w3a8")) == 240 + 80
    assert stored_bytes(layer, Scheme.parse("w4g32a8")) == 320 + 20 + 80
    assert stored_bytes(layer, Scheme.parse("w4g32")) == 320 + 80 + 40
    assert stored_bytes(layer, Scheme.parse("mxfp4"), bias=False) == 320 + 20
    assert stored_bytes(layer, Scheme.parse("codebook4"), bias=False) == 320 + 64
    assert stored_bytes(layer, Scheme.parse("int8+2:4"), bias=False) == 320 + 80 + 40
    assert stored_bytes(layer, Scheme.parse("int8+rank8")) == (64 + 10) * 8 + 4 * 8 + 4 * 10 + 4 * 10


def test_a_grouped_convolution_stores_each_groups_filters() -> None:
    layer = Layer("conv", "conv2d", G=4, K=8, C=2, P=9, Q=9, R=3, S=3)
    assert stored_bytes(layer, INT8) == 4 * 8 * 2 * 9 + 4 * 32 + 4 * 32


def test_a_table_has_a_scale_for_each_row() -> None:
    assert stored_bytes(Layer("table", "gather", N=9, K=16, C=100), W8A32) == 100 * (16 + 4)
    assert stored_bytes(Layer("table", "gather", N=9, K=16, C=100), FP32) == 100 * 16 * 4


def test_a_computed_operand_is_not_stored() -> None:
    assert stored_bytes(Layer("attention", "matmul", K=8, C=8, weight_bearing=False), INT8) == 0


def test_patterns_that_do_not_fit_the_channels_have_no_size() -> None:
    layer = Layer("conv", "conv2d", K=8, C=6, R=2)
    with pytest.raises(ValueError, match="a multiple of 4 input channels, got 6"):
        stored_bytes(layer, Scheme.parse("int8+2:4"))
    with pytest.raises(ValueError, match="4 input channels, got 8 and 6"):
        stored_bytes(layer, Scheme.parse("int8+block8x4-50"))
