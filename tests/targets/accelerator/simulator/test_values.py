"""Values: stored formats are decoded on their way in, padding and epilogues are as arithmetic says."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tersor import arithmetic
from tersor.formats.encoded import Encoded
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.isa.epilogue import Requantize, Rescale, Residual
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.simulator.simulation import simulate
from tersor.targets.accelerator.simulator.tables import OUTPUT, PARTIAL
from tests.targets.accelerator.simulator.layer_cases import expected_sums, run, tensors

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")
CONV = Layer("conv", "conv2d", K=24, C=16, P=9, Q=7, R=3, S=3, stride=(2, 1), padding=(1, 1, 1, 2))
MAPPING = parse_tree("""\
dram: weight, input, output
  for K in 2
    for C in 2
      for P in 3
        buffer: weight, input, output
          for R in 3
            for S in 3
              for P in 3
                for C in 8 on rows
                  for K in 12 on columns
                    registers: weight, output
                      for Q in 7
""")
SCHEMES = [
    "int8", "w4a8", "w2a8", "w3a8", "ternary-a8", "binary-a8", "codebook4-a8", "pot4-a8", "w4g16a8",
    "int8+2:4", "w4a8+2:4", "int8+1:4", "int8+4:8", "int8+sparse50", "int8+sparse95", "w4a8+sparse90",
    "int8+block4x8-50", "ternary-a8+sparse80",
]  # fmt: skip


@pytest.mark.parametrize("text", SCHEMES)
def test_weights_are_decoded_from_every_stored_format(text: str) -> None:
    scheme = Scheme.parse(text)
    given = tensors(CONV, 1, scheme)
    ran = run(CONV, MAPPING, EDGE, given, scheme)
    np.testing.assert_array_equal(ran.output, expected_sums(CONV, given))


@pytest.mark.parametrize(
    "layer",
    [
        replace(CONV, dilation=(2, 3)),
        replace(CONV, G=24, K=1, C=1),
        replace(CONV, G=3, K=8, C=5),
        replace(CONV, N=2, R=1, S=1, padding=(0, 0, 0, 0), stride=(2, 2)),
    ],
    ids=["dilated", "depthwise", "grouped", "strided"],
)
def test_convolutions_of_all_kinds_are_those_of_arithmetic(layer: Layer) -> None:
    loops = [
        "N in 2",
        "G in 24",
        "K in 2",
        "P in 9",
        "R in 3",
        "S in 3",
        "C in 16 on rows",
        "K in 12 on columns",
        "Q in 7",
    ]
    kept = {
        0: "dram: weight, input, output",
        3: "buffer: weight, input, output",
        8: "registers: weight, output",
    }
    lines = [line for i, loop in enumerate(loops) for line in (kept.get(i), f"for {loop}") if line]
    mapping = parse_tree("".join(f"{'  ' * depth}{line}\n" for depth, line in enumerate(lines)))
    given = tensors(layer, 2)
    np.testing.assert_array_equal(run(layer, mapping, EDGE, given).output, expected_sums(layer, given))


def test_epilogues_are_arithmetics_to_the_last_bit() -> None:
    given = tensors(CONV, 3)
    random = np.random.default_rng(3)
    sums = expected_sums(CONV, given)
    multiplier = (random.random(24) * 2e-3).astype(np.float32)
    residual = random.integers(0, 256, sums.shape).astype(np.uint8)
    given = replace(given, multiplier=multiplier, residual=residual)
    plain = run(CONV, MAPPING, EDGE, given, epilogue=Requantize(11, (11, 200)))
    np.testing.assert_array_equal(plain.output, arithmetic.requantize(sums, multiplier, 11, (11, 200)))
    added = run(CONV, MAPPING, EDGE, given, epilogue=Requantize(11, (0, 255), Residual(0.37, 5)))
    expected = arithmetic.requantize_add(sums, multiplier, residual, 0.37, 5, 11, (0, 255))
    np.testing.assert_array_equal(added.output, expected)
    floats = run(CONV, MAPPING, EDGE, given, epilogue=Rescale())
    np.testing.assert_array_equal(floats.output, arithmetic.rescale_accumulator(sums, multiplier))
    assert [each.output.dtype for each in (plain, floats)] == [np.uint8, np.float32]


def test_codes_of_fewer_bits_are_moved_as_such() -> None:
    """Into the outermost memory, by all that sends them on; what is read stays as it is."""
    given = replace(tensors(CONV, 3), multiplier=np.full(24, 1e-3, np.float32))
    wide, narrow, same = (
        run(CONV, MAPPING, EDGE, given, epilogue=Requantize(3, (0, 15), bits=bits)) for bits in (None, 4, 8)
    )
    np.testing.assert_array_equal(narrow.output, wide.output)
    assert narrow.write_bits[0, OUTPUT] == wide.write_bits[0, OUTPUT] / 2 == 4 * wide.output.size
    np.testing.assert_array_equal(narrow.write_bits[0, PARTIAL], wide.write_bits[0, PARTIAL])
    np.testing.assert_array_equal(narrow.read_bits[0], wide.read_bits[0])
    np.testing.assert_array_equal(same.write_bits, wide.write_bits)
    with pytest.raises(ValueError, match="codes up to 255 of 8 bits or fewer do not take 4"):
        Requantize(3, (0, 255), bits=4)


def test_sums_far_beyond_the_codes_saturate() -> None:
    given = replace(tensors(CONV, 4), multiplier=np.full(24, 3e4, np.float32))
    ran = run(CONV, MAPPING, EDGE, given, epilogue=Requantize(0))
    expected = arithmetic.requantize(expected_sums(CONV, given), given.multiplier, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ran.output, expected)


def test_what_cannot_be_run_is_refused_in_one_sentence() -> None:
    given = tensors(CONV, 5)
    program = lower(CONV, INT8, MAPPING, EDGE)
    assert isinstance(given.weight, Encoded)
    for hardware, other, reason in [
        (replace(EDGE, clock=1e9), given, "the program is for another machine than edge"),
        (EDGE, replace(given, input=given.input[:, :8]), "the input is [1, 16, H, W], got [1, 8, "),
        (
            EDGE,
            replace(given, input=given.input[:, :, 1:]),
            "has at least 19 rows and 9 columns, got 18 and 9",
        ),
        (
            EDGE,
            replace(given, weight=replace(given.weight, shape=(24, 16, 3, 1))),
            "the weight is [24, 16, 3, 3]",
        ),
        (EDGE, replace(given, bias=np.zeros(5, np.int32)), "the bias has 24 entries"),
    ]:
        with pytest.raises(ValueError, match=re.escape(reason)):
            simulate(program, hardware, other)
    rescaled = replace(program, epilogue=Rescale())
    with pytest.raises(ValueError, match="give a multiplier"):
        simulate(rescaled, EDGE, given)


def test_progress_is_told() -> None:
    told: list[float] = []
    simulate(lower(CONV, INT8, MAPPING, EDGE), EDGE, tensors(CONV, 6), told.append)
    assert told
    assert told == sorted(told)
    assert told[-1] == 1.0
