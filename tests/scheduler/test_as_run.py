from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.hardware import Datapath, Hardware, Representation
from tersor.hardware.memory import Formats
from tersor.layer import Layer
from tersor.scheduler.as_run import as_run, widths
from tersor.scheme import Scheme

MACHINES = Path(__file__).parents[2] / "targets" / "machines"
EDGE, BRICKS, EYERISS, GEMMINI = (
    Hardware.load(MACHINES / f"{name}.toml") for name in ("edge", "bit_fusion", "eyeriss", "gemmini")
)
DENSE = Layer("fc", "matmul", N=8, K=64, C=64)
TABLE = Layer("table", "gather", N=8, K=64, C=64)


def run(text: str, hardware: Hardware, layer: Layer = DENSE) -> str:
    return str(as_run(Scheme.parse(text), layer, hardware)[0])


@pytest.mark.parametrize(
    ("scheme", "edge", "bricks", "eyeriss", "gemmini"),
    [
        ("int8", "int8", "int8", "int16", "int8"),
        ("w4a8", "w4a8", "w4a8", "int16", "int8"),
        ("w2a8", "w4a8", "w2a8", "int16", "int8"),
        ("w3a6", "w4a8", "w4a8", "int16", "int8"),
        ("int4", "int4", "int4", "int16", "int8"),
        ("ternary-a8", "w4a8", "w2a8", "int16", "int8"),
        ("int8+rank16", "int8+rank16", "int8+rank16", "int16+rank16", "int8+rank16"),
        ("w4a8+2:4", "w4a8+2:4", "w4a8", "int16", "int8"),
        ("int8+1:4", "int8", "int8", "int16", "int8"),
        ("int8+sparse50", "int8", "int8", "int16", "int8"),
        ("int8+dynamic", "int8", "int8", "int16", "int8"),
        ("fp32", "fp32", "fp32", "fp32", "fp32"),
    ],
)
def test_what_a_machine_lacks_becomes_the_next_wider_that_it_has(
    scheme: str, edge: str, bricks: str, eyeriss: str, gemmini: str
) -> None:
    machines = (EDGE, BRICKS, EYERISS, GEMMINI)
    assert [run(scheme, machine) for machine in machines] == [edge, bricks, eyeriss, gemmini]


def test_the_reason_names_the_machine_and_what_it_has() -> None:
    _, reason = as_run(Scheme.parse("w2a8+1:4"), DENSE, EDGE)
    assert reason == (
        "edge runs w2a8+1:4 as w4a8: its integers have 4, 8 bits, "
        "the zeros of 1:4 are values as any other to it"
    )
    assert as_run(Scheme.parse("w4a8"), DENSE, EDGE)[1] == ""


def test_zeros_are_zeros_where_a_datapath_looks_at_them_or_a_memory_leaves_them_out() -> None:
    assert EDGE.datapath
    gating = replace(EDGE, datapath=replace(EDGE.datapath, gates=("weight",)))
    assert run("int8+sparse50", gating) == "int8+sparse50"
    inputs = replace(EDGE, datapath=replace(EDGE.datapath, skips=("input",)))
    assert run("int8+sparse50", inputs) == "int8"
    for form, kept in (("bitmask", True), ("2:4", False)):
        dram = replace(EDGE.memories[0], formats=Formats(weight=Representation.parse(form)))
        compressing = replace(EDGE, memories=(dram, *EDGE.memories[1:]))
        assert run("int8+sparse50", compressing) == ("int8+sparse50" if kept else "int8")


def test_a_factor_that_comes_bit_by_bit_has_any_width() -> None:
    serial = replace(GEMMINI, datapath=Datapath(mode="bit_serial"))
    assert widths(serial, "input") == (2, 3, 4, 5, 6, 7, 8)
    assert widths(serial, "weight") == (8,)
    assert run("w4a5", serial) == "w8a5"


def test_rows_of_a_table_move_as_they_are_stored() -> None:
    assert [run("w8a32", each, TABLE) for each in (EDGE, EYERISS)] == ["int8", "int16"]


def test_integers_that_are_too_wide_are_floats_where_there_are_some() -> None:
    assert run("int16", EDGE) == "fp32"
    assert run("int16", BRICKS) == "int16", "which why_no_layer refuses"


@given(
    st.sampled_from(["int8", "w4a8", "w2a8", "int4", "w3a6", "int8+2:4", "w2a4+sparse50", "int8+dynamic"]),
    st.sampled_from([EDGE, BRICKS, EYERISS, GEMMINI]),
    st.sampled_from([DENSE, TABLE]),
)
def test_what_a_machine_runs_it_runs_as_it_is(text: str, hardware: Hardware, layer: Layer) -> None:
    once, _ = as_run(Scheme.parse(text), layer, hardware)
    assert as_run(once, layer, hardware) == (once, "")
