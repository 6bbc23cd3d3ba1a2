import pytest

from tersor.layer import Layer
from tersor.mapping import Keep, Loop, Mapping

LAYER = Layer("fc", "matmul", N=32, K=64, C=128)
SPACE = ("rows", "columns")


def mapping(text: str) -> Mapping:
    return Mapping(tuple(Loop.parse(loop) for loop in text.split(", ")))


def test_a_mapping_reads_like_its_loops() -> None:
    text = "K=4@dram, N=32@buffer, K=16@rows, C=128@columns"
    assert str(mapping(text)) == text
    assert str(Keep.parse("weight@buffer")) == "weight@buffer"


def test_the_loops_must_make_the_layers_iterations() -> None:
    assert mapping("K=4@dram, N=32@buffer, K=16@rows, C=128@columns").why_not(LAYER) is None
    reason = mapping("K=4@dram, N=32@buffer, C=128@columns").why_not(LAYER)
    assert reason == "the loops over K make 4 iterations, the layer 'fc' has 64"


@pytest.mark.parametrize(
    ("text", "dataflow"),
    [
        ("K=4@dram, C=8@dram, N=32@dram, K=16@rows, C=16@columns", "weight-stationary"),
        ("N=32@dram, K=64@dram, C=128@dram", "output-stationary"),
        ("N=32@dram, C=128@dram, K=64@dram", "input-stationary"),
        ("K=64@dram, C=128@dram, N=32@dram, K=1@buffer", "weight-stationary"),
        ("K=64@rows, C=128@columns", "none"),
    ],
)
def test_the_dataflow_is_the_operand_that_stays(text: str, dataflow: str) -> None:
    assert mapping(text).dataflow(SPACE) == dataflow


def test_filter_rows_and_output_rows_in_space_are_row_stationary() -> None:
    assert (
        mapping("K=8@dram, C=8@dram, R=3@rows, P=14@columns, Q=14@spad").dataflow(SPACE) == "row-stationary"
    )


@pytest.mark.parametrize("text", ["K4@dram", "Z=4@dram", "K=4", "K=@dram", "K=4@", "K=-1@dram", "K=4@a b"])
def test_what_is_no_loop_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no loop"):
        Loop.parse(text)


def test_wrong_parts_are_named() -> None:
    with pytest.raises(ValueError, match="at least 1 iteration, got 0"):
        Loop("K", 0, "dram")
    with pytest.raises(ValueError, match="one of weight, input, output, got 'bias'"):
        Keep.parse("bias@dram")
    with pytest.raises(ValueError, match="no place of an operand"):
        Keep.parse("weight")
