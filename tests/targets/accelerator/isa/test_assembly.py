"""A program's text says everything, and reads like the loop tree that it was made from."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from tersor.error import UserError
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.assembly import assemble, disassemble
from tersor.targets.accelerator.isa.epilogue import Requantize
from tersor.targets.accelerator.isa.program import AnyProgram, digest_of
from tersor.targets.accelerator.isa.vector import Add
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.lowering.vector import lower_vector
from tests.targets.accelerator.isa.machines import TOY
from tests.targets.accelerator.isa.programs import PROGRAMS
from tests.targets.accelerator.lowering.cases import lowered_case

INT8 = Scheme.parse("int8")


def listing(layer: Layer, tree: str) -> str:
    """The text of a lowered tree without its heading."""
    program = lower(layer, INT8, parse_tree(tree), TOY)
    text = disassemble(program, TOY)
    assert assemble(text, TOY) == program
    return text.split("\n", 4)[4]


def test_a_ragged_layer_with_a_bypassed_memory() -> None:
    """3 rows in tiles of 2 and 7 channels in two of 4, so that sums come back; the pad has weights alone."""
    tree = """\
dram: weight, input, output
  for C in 2
    for N in 2
      sram: input, output
        for N in 2
          for C in 4 on rows
            for K in 2 on columns
              pad: weight
"""
    assert (
        listing(Layer("fc", "matmul", N=3, K=2, C=7), tree)
        == """\
spread C 4 on rows step 1
spread K 2 on columns step 1
loop C 2 step 4
  load weight dram -> pad at 0 x1 pitch 1, one element, wait free weight@pad, give full weight@pad
  loop N 2 step 2
    load input dram -> sram at 0 x2 pitch 8, N 2 C 4, wait free input@sram, give full input@sram
    restore output dram -> sram at 16 x2 pitch 16, N 2 K 2, wait free output@sram, give full output@sram
    loop N 2 step 1
      compute, wait full weight@pad full input@sram full output@sram
    end
    sync, give free input@sram
    store output sram -> dram at 16 x2 pitch 16, N 2 K 2, give free output@sram
  end
  sync, give free weight@pad
end
"""
    )


def test_windows_that_slide_and_uneven_tiles_in_one_memory() -> None:
    """The rows of the input slide; sums stay while the window is walked over, weights do not."""
    tree = """\
dram: weight, input, output
  for P in 4
    sram: input, output
      for R in 3
        sram: weight
          for Q in 4
            for S in 3
              pad: output
"""
    assert (
        listing(Layer("conv", "conv2d", P=4, Q=4, R=3, S=3), tree)
        == """\
loop P 4 step 1
  load input dram -> sram at 6 x2 pitch 18, Q 4 R 3 S 3, slides, wait free input@sram, give full input@sram
  begin output dram -> sram at 42 x2 pitch 16, Q 4, wait free output@sram, give full output@sram
  loop R 3 step 1
    load weight dram -> sram at 0 x2 pitch 3, S 3, wait free weight@sram, give full weight@sram
    loop Q 4 step 1
      restore output sram -> pad at 0 x1 pitch 4, one element, wait free output@pad full output@sram, \
give full output@pad
      loop S 3 step 1
        compute, wait full weight@sram full input@sram full output@pad
      end
      store output pad -> sram at 0 x1 pitch 4, one element, wait full output@sram, give free output@pad
    end
    sync, give free weight@sram
  end
  sync, give free input@sram
  store output sram -> dram at 42 x2 pitch 16, Q 4, give free output@sram
end
"""
    )


def test_imperfect_factors_cover_more_than_the_layer_and_tiles_end_with_it() -> None:
    """7 outputs in 2 x 5 iterations: the tile of 5 fits once and for 2 outputs."""
    tree = """\
dram: weight, input, output
  for K in 2
    sram: weight
      for K in 5
"""
    assert (
        listing(Layer("fc", "matmul", K=7), tree)
        == """\
loop K 2 step 5
  load weight dram -> sram at 0 x2 pitch 5, K 5, wait free weight@sram, give full weight@sram
  loop K 5 step 1
    compute, wait full weight@sram
  end
  sync, give free weight@sram
end
"""
    )


def test_an_addition_is_read_as_it_streams() -> None:
    text = disassemble(lower_vector("sum", Add(0.5, 3, 0.25, 0, 128), (1, 40, 4, 4), TOY), TOY)
    assert (
        text
        == f"""\
machine "toy" {digest_of(TOY)}
layer {{"name":"sum","operator":"conv2d","G":40,"P":4,"Q":4,"weight_bearing":false}}
add {{"a_multiplier":0.5,"a_zero_point":3,"b_multiplier":0.25,"b_zero_point":0,"zero_point":128}}
loop G 14 step 3
  load weight dram -> sram at 0 x2 pitch 48, G 3 P 4 Q 4, wait free weight@sram, give full weight@sram
  load input dram -> sram at 96 x2 pitch 48, G 3 P 4 Q 4, wait free input@sram, give full input@sram
  begin output dram -> sram at 192 x2 pitch 48, G 3 P 4 Q 4, wait free output@sram, give full output@sram
  apply at sram, G 3 P 4 Q 4, wait full weight@sram full input@sram full output@sram
  sync, give free weight@sram free input@sram
  store output sram -> dram at 192 x2 pitch 48, G 3 P 4 Q 4, give free output@sram
end
"""
    )


@given(PROGRAMS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_text_reads_back(program: AnyProgram) -> None:
    assert assemble(disassemble(program, TOY), TOY) == program


def test_lowered_programs_read_back() -> None:
    for seed in range(50):
        case, program = lowered_case(seed)
        program = replace(program, epilogue=Requantize(3, (0, 200)))
        assert assemble(disassemble(program, case.hardware), case.hardware) == program


def test_a_text_may_be_indented_in_any_way() -> None:
    case, program = lowered_case(7)
    text = disassemble(program, case.hardware)
    flat = "\n".join(line.strip() for line in text.splitlines())
    assert assemble(flat, case.hardware) == program


HEADING = f"""\
machine "toy" {digest_of(TOY)}
layer {{"name":"fc","operator":"matmul","K":4}}
scheme int8
sums {{}}
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("loop K 4", "line 5: 'loop K 4' is no instruction; write it as in loop K 4 step 16"),
        ("jump", "line 5: 'jump' is no instruction"),
        ("loop X 4 step 1", "line 5: a loop runs over one of N, G, K"),
        ("loop K 0 step 1", "line 5: a loop over K makes 1 or more iterations"),
        ("end", "the end at 0 closes no loop"),
        ("loop K 4 step 1", "1 loops of the program have no end"),
        ("spread K 4 on lanes step 1", "there is no axis 'lanes'; use one of rows, columns"),
        ("load weight dram -> l2 at 0 x1 pitch 4, K 4", "no memory 'l2'; use one of dram, sram, pad"),
        ("load weight pad -> sram at 0 x1 pitch 4, K 4", "a load goes inwards, got from 2 to 1"),
        ("load output dram -> sram at 0 x1 pitch 4, K 4", "the output begins or is restored"),
        ("load weight dram -> sram at 0 x1 pitch 4", "a tile needs its extents, as in 'K 16 C 4'"),
        ("load weight dram -> sram at 0 x1 pitch 4, K 4 K 4", "names a dimension twice; remove one"),
        ("load weight dram -> sram at 0 x1 pitch 4, K 4, slides", "tiles of the input slide"),
        ("load weight dram -> sram at 0 x0 pitch 4, K 4", "no tile lies at byte 0, in 0 places"),
        ("load weight dram -> sram at 0 x1 pitch 4, K 4, quickly", "'quickly' is nothing that belongs"),
        ("store output dram -> sram at 0 x1 pitch 4, K 4", "a store goes outwards, got from 0 to 1"),
        ("compute, wait full weight", "'full weight' is no token; write it as in full weight@buffer"),
        ("compute, wait full weight@sram full", "'full ' is no token"),
        ("compute, wait full weight@dram", "the outermost memory .0. has all at all times"),
        ("compute, give full weight@sram", "'compute' has no full weight to wait for or give"),
        ("compute, wait" + " full weight@sram" * 9, "up to 8 tokens, got 9"),
        ("apply at sram, K 4", "Apply at 0 is nothing for this kind of program"),
        ("apply at dram, K 4", "tiles lie inside of the outermost memory"),
    ],
)
def test_a_line_that_is_none_is_refused_with_its_number(body: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        assemble(HEADING + body + "\n", TOY)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("layer", "layers", "the program has no heading: give lines of machine, layer"),
        ("sums {}", "what {}", "the program has no heading"),
        ("scheme int8", "scheme int9x", "the program: 'int9x' is no scheme"),
        ('"K":4', '"K":0', "the program, layer: .*K must be at least 1, got 0"),
        ('"K":4', '"KK":4', "KK is an unknown key; remove it"),
        ("sums {}", "requantize {}", "the program, requantize: zero_point is missing; add it"),
        ("sums {}", 'requantize {"zero_point":300}', "codes from 0 to 255"),
    ],
)
def test_a_heading_that_is_none_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        assemble(HEADING.replace(old, new), TOY)


def test_the_program_of_another_machine_is_refused() -> None:
    other = replace(TOY, clock=2e9)
    with pytest.raises(UserError, match="made for the machine toy, this is another toy: compile the model"):
        assemble(HEADING, other)
    with pytest.raises(UserError, match="the program of fc was made for the machine toy, this is big"):
        disassemble(assemble(HEADING, TOY), replace(TOY, name="big"))
