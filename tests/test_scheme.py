from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.factor import CP, FilterGroups, LowRank, Spatial, SVDSoftmax, TensorTrain, Tucker
from tersor.scheme import FP32, INT8, Scheme
from tersor.sparsity import NM, Block, Channels, Unstructured
from tersor.weight_format import (
    FLOATS,
    MICROSCALINGS,
    Binary,
    Codebook,
    Float,
    Integer,
    Microscaling,
    PowerOfTwo,
    Ternary,
    has_integer_codes,
)

INTEGERS = st.builds(Integer, st.integers(2, 16))


GROUPS = st.none() | st.integers(2, 128)
INTEGER_FORMATS = (
    st.builds(Integer, st.integers(2, 16), GROUPS)
    | st.builds(Ternary, GROUPS)
    | st.builds(Binary, GROUPS)
    | st.builds(Codebook, st.integers(1, 8))
    | st.builds(PowerOfTwo, st.integers(2, 4), GROUPS)
)
FLOAT_FORMATS = st.sampled_from([*map(Float, FLOATS), *map(Microscaling, MICROSCALINGS)])
ZEROS = st.integers(1, 99).map(float)
SPARSITIES = (
    st.tuples(st.integers(1, 15), st.integers(1, 15)).map(lambda pair: NM(pair[0], sum(pair)))
    | st.builds(Block, st.integers(1, 64), st.integers(1, 64), ZEROS)
    | st.builds(Unstructured, ZEROS)
    | st.builds(Channels, ZEROS)
)
RANKS = st.integers(1, 999)
FACTORS = (
    st.sampled_from([LowRank, Spatial, FilterGroups, CP, TensorTrain]).flatmap(
        lambda kind: st.builds(kind, RANKS)
    )
    | st.builds(Tucker, RANKS, RANKS)
    | st.builds(SVDSoftmax, RANKS, RANKS)
)


@st.composite
def schemes(draw: st.DrawFn) -> Scheme:
    weight = draw(st.none() | INTEGER_FORMATS | FLOAT_FORMATS)
    takes_integers = weight is not None and has_integer_codes(weight)
    input = draw(st.none() | INTEGERS) if takes_integers else None
    dynamic = input is not None and draw(st.booleans())
    return Scheme(draw(st.none() | FACTORS), draw(st.none() | SPARSITIES), weight, input, dynamic)


@given(schemes())
def test_a_scheme_is_read_back_from_its_text(scheme: Scheme) -> None:
    assert Scheme.parse(str(scheme)) == scheme


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (FP32, "fp32"),
        (INT8, "int8"),
        (Scheme(None, NM(2, 4), Integer(8), Integer(8)), "int8+2:4"),
        (Scheme(LowRank(16), None, Integer(8), Integer(8)), "int8+rank16"),
        (Scheme(LowRank(16), NM(2, 4), Integer(8), Integer(8)), "int8+rank16+2:4"),
        (Scheme(LowRank(16)), "fp32+rank16"),
        (Scheme(None, None, Integer(4), Integer(8)), "w4a8"),
        (Scheme(None, None, Integer(4)), "w4a32"),
        (Scheme(None, None, Integer(4, 64), Integer(8)), "w4g64a8"),
        (Scheme(None, None, Ternary(), Integer(8)), "ternary-a8"),
        (Scheme(None, None, Codebook(4)), "codebook4"),
        (Scheme(Tucker(16, 24), Block(4, 8, 50.0), Float("bf16")), "bf16+tucker16x24+block4x8-50"),
        (Scheme(CP(24), Unstructured(87.5)), "fp32+cp24+sparse87.5"),
        (Scheme(None, Channels(50.0), Microscaling("mxfp4")), "mxfp4+channels50"),
    ],
)
def test_the_texts_are_short(scheme: Scheme, text: str) -> None:
    assert str(scheme) == text


def test_products_are_computed_in_the_wider_precision() -> None:
    computed = {text: Scheme.parse(text).compute for text in ("fp32", "int8", "w4a8", "w4a32")}
    assert computed == {"fp32": "fp32", "int8": "int8", "w4a8": "int8", "w4a32": "fp32"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no scheme"),
        ("bf8", "'bf8' is no scheme: it must begin with fp32, int8 or w4a8"),
        ("int8+4:2", "0 < n < m, got 4:2"),
        ("int8+2:4+1:4", "names two of the kind sparsity"),
        ("int8+rank4+rank8", "names two of the kind low-rank"),
        ("int8+rank0", "rank of at least 1, got rank0"),
        ("int8+fast", "'fast' in 'int8\\+fast' is no sparsity"),
        ("int1", "2 to 16 bits, got 1"),
        ("w4g1", "at least 2 weights, got 1"),
        ("codebook9", "1 to 8 bits, got 9"),
        ("pot5", "2 to 4 bits, got 5"),
        ("int8+sparse100", "below 100 percent, got 100"),
        ("int8+block0x4-50", "at least 1x1 weights"),
        ("int8+tucker4", "'tucker4' in"),
        ("int8+2:x", "'2:x' is no N:M sparsity"),
    ],
)
def test_a_wrong_text_is_named(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Scheme.parse(text)


def test_a_dynamic_range_is_that_of_an_integer_input() -> None:
    assert Scheme.parse("int8+dynamic") == replace(INT8, dynamic=True)
    with pytest.raises(ValueError, match="a dynamic range is that of an integer input"):
        Scheme(weight=Integer(8), dynamic=True)
    with pytest.raises(ValueError, match="two of the kind dynamic range"):
        Scheme.parse("int8+dynamic+dynamic")


def test_an_integer_input_needs_integer_weights() -> None:
    with pytest.raises(ValueError, match="an int8 input needs integer weights"):
        Scheme(input=Integer(8))


def test_floating_point_weights_meet_no_integer_input() -> None:
    with pytest.raises(ValueError, match="an int8 input needs integer weights, mxfp4 are none"):
        Scheme(weight=Microscaling("mxfp4"), input=Integer(8))
