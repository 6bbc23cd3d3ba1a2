import pytest

from tersor.layer import Layer
from tersor.sparsity import parse_sparsity, why_no_pattern

CONV = Layer("conv", "conv2d", G=2, K=8, C=12, P=4, Q=4, R=3, S=3)
DENSE = Layer("fc", "matmul", K=10, C=8)


@pytest.mark.parametrize("text", ["2:4", "1:4", "block8x4-50", "block1x12-50", "sparse90", "channels50"])
def test_what_divides_the_channels_of_a_group_fits(text: str) -> None:
    assert why_no_pattern(CONV, parse_sparsity(text)) is None


@pytest.mark.parametrize(
    ("layer", "text", "reason"),
    [
        (CONV, "4:8", "4:8 sparsity needs a multiple of 8 inputs, got 12"),
        (CONV, "block16x4-50", "needs a multiple of 16 outputs, got 8"),
        (CONV, "block8x8-50", "needs a multiple of 8 inputs, got 12"),
        (DENSE, "block4x8-50", "needs a multiple of 4 outputs, got 10"),
        (Layer("dw", "conv2d", G=8, R=3, S=3), "2:4", "needs a multiple of 4 inputs, got 1"),
        (Layer("table", "gather", K=8, C=8), "sparse50", "rows of a table are looked up"),
        (Layer("qk", "matmul", K=8, C=8, weight_bearing=False), "2:4", "there is no weight to prune"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(layer: Layer, text: str, reason: str) -> None:
    assert reason in (why_no_pattern(layer, parse_sparsity(text)) or "")
