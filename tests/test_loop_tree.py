import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import DIMS, Layer
from tersor.loop_tree import depth_of, homes_of, parse_tree, why_misplaced, write_tree
from tersor.mapping import Keep, Loop, Mapping

MACHINE = Hardware(
    name="toy",
    clock=1e9,
    compute=(Compute("int8", 64),),
    memories=(
        Memory("dram", 1 << 30, 1e9),
        Memory("buffer", 1 << 16, 1e10),
        Memory("spad", 64, 1e10, keeps=("weight", "output")),
    ),
    axes=(
        Axis("rows", 8, "buffer", ("C", "R"), reduces=True),
        Axis("columns", 8, "buffer", ("K", "P"), multicast=("input",)),
    ),
    datapath=Datapath(),
)
TREE = """\
dram: weight, input, output
  for K in 4
    buffer: input, output
      for C in 8
        buffer: weight
          for P in 56
            for K in 8 on columns
              for C in 8 on rows
                spad: weight
"""


def test_a_tree_shows_loops_and_memories_as_they_enclose_one_another() -> None:
    mapping = parse_tree(TREE)
    assert str(mapping) == "K=4@dram, C=8@buffer, P=56@buffer, K=8@columns, C=8@rows"
    assert Keep("weight", "buffer", 1) in mapping.keep
    assert write_tree(mapping, MACHINE) == TREE
    layer = Layer("conv", "conv2d", K=32, C=61, P=56)
    assert mapping.why_not(layer) is None, "61 channels are 8 tiles of 8, the last one ragged"


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    """Mappings that fit the machine, their tiles in the order of the memories."""
    depths = sorted(depth_of(MACHINE).items(), key=lambda each: each[1])
    loops: list[Loop] = []
    for name, depth in depths:
        spatial = depth % 2 == 1
        dims = MACHINE.axis(name).unrolls if spatial else DIMS
        for dim in draw(st.lists(st.sampled_from(dims), max_size=1 if spatial else 4)):
            loops.append(Loop(dim, draw(st.integers(1, 8)), name))
    on_chip = draw(st.sets(st.sampled_from(("input", "output"))))
    keep = [Keep(o, "buffer" if o in on_chip else "dram") for o in ("weight", "input", "output")]
    for memory in MACHINE.memories[1:]:
        most = sum(loop.at == memory.name for loop in loops)
        for operand in draw(st.sets(st.sampled_from(memory.keeps))):
            if memory.name != "buffer" or operand not in on_chip:
                keep.append(Keep(operand, memory.name, draw(st.integers(0, most))))
    return Mapping(tuple(loops), tuple(keep))


@given(mappings())
def test_a_tree_parses_back(mapping: Mapping) -> None:
    again = parse_tree(write_tree(mapping, MACHINE))
    assert again.loops == mapping.loops
    assert set(again.keep) == set(mapping.keep)
    assert all(Keep.parse(str(keep)) == keep for keep in mapping.keep)


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("K in 8 on columns", "C in 8 on columns", "the axis columns unrolls K, P, not C"),
        ("K in 8 on columns", "K in 9 on columns", "the loops on columns need 9 units, it has 8"),
        ("K in 8 on columns", "K in 8 on depth", "toy has no memory or axis 'depth'; its places are dram,"),
        ("spad: weight", "spad: input", "the memory spad keeps weight, output, not the input"),
        ("spad: weight", "l0: weight", "toy has no memory 'l0'"),
        ("spad: weight", "buffer: weight", "the weight is kept 2 times at buffer"),
        ("for P in 56", "for P in 56 on columns", "the loops on columns need 448 units"),
        ("for K in 4", "for K in 4 on rows", "the loop C=8@buffer is inside of K=4@rows, but buffer is outs"),
    ],
)
def test_what_has_no_place_is_named(good: str, bad: str, sentence: str) -> None:
    mapping = parse_tree(TREE.replace(good, bad, 1))
    assert sentence in (why_misplaced(mapping, MACHINE) or "")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        write_tree(mapping, MACHINE)


def test_what_stays_on_the_chip_comes_before_all_loops() -> None:
    text = """\
buffer: input
  dram: weight, output
    for K in 4
      buffer: output
        for C in 8
          buffer: weight
            for P in 56
              for K in 8 on columns
                for C in 8 on rows
                  spad: weight
"""
    mapping = parse_tree(text)
    assert write_tree(mapping, MACHINE) == text
    assert homes_of(mapping, MACHINE) == {"weight": "dram", "input": "buffer", "output": "dram"}


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ("weight@dram, input@dram", "the output begins whole in dram; keep output@dram"),
        ("weight@spad, input@dram, output@dram", "the weight lies whole in one of 64 spad; keep weight@dram"),
        (
            "weight@dram, input@dram, output@buffer@1",
            "the output lies whole in buffer, inside of no loops; keep output@buffer",
        ),
    ],
)
def test_an_operand_lies_whole_in_one_memory(kept: str, sentence: str) -> None:
    loops = parse_tree(TREE).loops
    mapping = Mapping(loops, tuple(map(Keep.parse, kept.split(", "))))
    assert why_misplaced(mapping, MACHINE) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dram: weight\n  for K in 4\n    buffer: input\n", "line 3: the input begins whole: name it before"),
        ("for K in 4\n", "begins with a memory"),
        ("dram: weight\nfor K in 4\n", "line 2 of a loop tree is indented by 2 spaces"),
        ("dram: weight\n  K=4\n", "line 2 is no 'for K in 4'"),
        ("dram: bias\n", "one of weight, input, output, got 'bias'"),
        ("dram: weight\n  for Z in 4\n", "one of N, G, K, C, P, Q, R, S, got 'Z'"),
    ],
)
def test_a_line_that_is_not_understood_is_named(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_tree(text)
