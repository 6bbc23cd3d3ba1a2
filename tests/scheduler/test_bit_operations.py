import pytest

from tersor.layer import Layer
from tersor.scheduler.bit_operations import bit_operations
from tersor.scheme import Scheme

LAYER = Layer("fc", "matmul", N=3, K=64, C=128)
MACS = 3 * 64 * 128


@pytest.mark.parametrize(
    ("scheme", "each"),
    [("fp32", 1024), ("int8", 64), ("w4a8", 32), ("w2a8", 16), ("int8+2:4", 32), ("w4a8+sparse75", 8)],
)
def test_products_times_the_bits_of_both_operands(scheme: str, each: int) -> None:
    assert bit_operations(LAYER, Scheme.parse(scheme)) == MACS * each


def test_a_factored_weight_counts_as_its_factors() -> None:
    factors = 3 * 16 * (64 + 128)
    assert bit_operations(LAYER, Scheme.parse("int8+rank16")) == factors * 64


def test_looking_up_rows_is_no_arithmetic() -> None:
    table = Layer("table", "gather", N=3, K=64, C=128)
    assert bit_operations(table, Scheme.parse("w8a32")) == 0
