"""What the CPU has kernels for, under which schemes, and what is asked for in place of the others."""

import pytest

from tersor.formats.size import stored_bytes
from tersor.layer import Layer
from tersor.planning import nearest
from tersor.scheme import Scheme
from tersor.targets.cpu.host.cost import estimate, why_not
from tersor.targets.cpu.host.detect import detect, hardware

HOST = hardware(detect())
CONV = Layer("conv", "conv2d", N=1, K=64, C=64, P=14, Q=14, R=3, S=3)
DEPTHWISE = Layer("depthwise", "conv2d", N=1, G=32, K=1, C=1, P=14, Q=14, R=3, S=3)
DENSE = Layer("dense", "matmul", N=4, K=100, C=64)
TABLE = Layer("table", "gather", N=4, K=64, C=100)
RECURRENT = Layer("recurrent", "matmul", N=4, K=8, C=8, recurrent=True)
PRODUCT = Layer("product", "matmul", N=4, K=8, C=8, weight_bearing=False)
INTEGER = [
    "int8",
    "w4a8",
    "w8a4",
    "int4",
    "w2a2",
    "w4g64a8",
    "w3a8",
    "w2a8",
    "ternary-a8",
    "binary-a8",
    "codebook4-a8",
    "pot4-a8",
]
WEIGHT_ONLY = ["w8a32", "w4g64", "binary", "codebook4", "fp16", "bf16", "e4m3", "e5m2", "mxfp4", "mxint8"]
PATTERNS = ["int8+2:4", "w4a8+2:4", "fp32+2:4", "bf16+sparse90", "codebook4+block4x8-50"]


@pytest.mark.parametrize("text", INTEGER + WEIGHT_ONLY + PATTERNS)
def test_every_format_and_pattern_has_kernels(text: str) -> None:
    scheme = Scheme.parse(text)
    for layer in (CONV, DENSE):
        assert why_not(layer, scheme, HOST) is None
        assert estimate(layer, scheme, HOST).size == stored_bytes(layer, scheme)


@pytest.mark.parametrize(
    ("layer", "text", "reason", "instead"),
    [
        (DEPTHWISE, "int8+2:4", "2:4 needs a multiple of 4 input channels, got 1", "int8"),
        (DENSE, "int8+block3x8-50", "multiples of 3 output and 8 input channels, got 100 and 64", "int8"),
        (CONV, "binary-a8+2:4", "binary weights have no zero: write binary-a8 or ternary", "binary-a8"),
        (CONV, "w8g64a8", "codes of 8 bits have no room for scales of groups: write int8", "int8"),
        (CONV, "w4a9", "kernels read inputs of at most 8 bits: write w4a8", "w4a8"),
        (DENSE, "w8a4+dynamic", "on grids of their own are read in 8 bits: write int8+dynamic", "w8a4"),
        (PRODUCT, "w8a4", "product multiplies two inputs, of 8 bits each: write int8", "int8"),
        (RECURRENT, "w8a4", "recurrent states are read in 8 bits: write int8", "int8"),
        (CONV, "int16", "kernels read weights of at most 8 bits", "int8"),
        (CONV, "int8+dynamic", "only dense layers find ranges row by row", "int8"),
        (TABLE, "w4g64a8", "not multiplied: write w4g64a32", "w4g64a32"),
        (TABLE, "fp32+2:4", "the rows of a table are not thinned", "fp32"),
        (PRODUCT, "w4a8", "product multiplies two inputs, of 8 bits each: write int8", "int8"),
        (PRODUCT, "mxfp4", "product has no weight to store as mxfp4", "fp32"),
    ],
)
def test_what_has_no_kernel_is_refused_with_what_to_change(
    layer: Layer, text: str, reason: str, instead: str
) -> None:
    scheme = Scheme.parse(text)
    assert reason in str(why_not(layer, scheme, HOST))
    planned = nearest(layer, scheme, HOST)
    assert str(planned.scheme) == instead
    assert reason in planned.reason


def test_a_weight_that_is_decoded_once_is_as_fast_as_a_stored_one() -> None:
    for text in ("w2a8", "int8+2:4", "ternary-a8"):
        smaller, plain = (estimate(DENSE, Scheme.parse(each), HOST) for each in (text, "int8"))
        assert smaller.seconds == plain.seconds
        assert smaller.size < plain.size
