from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.scheme import FP32, INT8, NM, Integer, LowRank, Scheme

INTEGERS = st.builds(Integer, st.integers(2, 16))
SPARSITIES = st.tuples(st.integers(1, 15), st.integers(1, 15)).map(lambda pair: NM(pair[0], sum(pair)))


@st.composite
def schemes(draw: st.DrawFn) -> Scheme:
    quantization = draw(st.none() | INTEGERS)
    low_rank = draw(st.none() | st.builds(LowRank, st.integers(1, 999)))
    input = draw(st.none() | INTEGERS) if quantization else None
    dynamic = input is not None and draw(st.booleans())
    return Scheme(low_rank, draw(st.none() | SPARSITIES), quantization, input, dynamic)


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
        ("bf16", "'bf16' is no scheme: it must begin with fp32, int8 or w4a8"),
        ("int8+4:2", "0 < n < m, got 4:2"),
        ("int8+2:4+1:4", "names two of the kind sparsity"),
        ("int8+rank4+rank8", "names two of the kind low-rank"),
        ("int8+rank0", "rank of at least 1, got 0"),
        ("int8+fast", "'fast' in 'int8\\+fast' is no sparsity"),
        ("int1", "2 to 16 bits, got 1"),
        ("int8+2:x", "'2:x' is no N:M sparsity"),
    ],
)
def test_a_wrong_text_is_named(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Scheme.parse(text)


def test_a_dynamic_range_is_that_of_an_integer_input() -> None:
    assert Scheme.parse("int8+dynamic") == replace(INT8, dynamic=True)
    with pytest.raises(ValueError, match="a dynamic range is that of an integer input"):
        Scheme(quantization=Integer(8), dynamic=True)
    with pytest.raises(ValueError, match="two of the kind dynamic range"):
        Scheme.parse("int8+dynamic+dynamic")


def test_an_integer_input_needs_integer_weights() -> None:
    with pytest.raises(ValueError, match="an int8 input needs integer weights"):
        Scheme(input=Integer(8))
