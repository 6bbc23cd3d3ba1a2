from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.factor import why_no_factor
from tersor.hardware import Compute, Hardware
from tersor.layer import Layer
from tersor.scheduler.as_run import as_run
from tersor.scheduler.machine_space import factors, machine_candidates, machine_space, why_not_run
from tersor.sparsity import NM

MACHINES = Path(__file__).parents[2] / "targets" / "machines"
EDGE, BRICKS, EYERISS, SPARSE = (
    Hardware.load(MACHINES / f"{name}.toml") for name in ("edge", "bit_fusion", "eyeriss", "eyeriss_v2_pe")
)
DENSE = Layer("fc", "matmul", N=8, K=64, C=64)
CONV = Layer("conv", "conv2d", K=64, C=64, P=8, Q=8, R=3, S=3, padding=(1, 1, 1, 1))
DEPTHWISE = Layer("depthwise", "conv2d", G=64, P=8, Q=8, R=3, S=3, padding=(1, 1, 1, 1))


def legal(layer: Layer, hardware: Hardware) -> list[str]:
    return [str(scheme) for scheme in machine_space(layer, hardware).legal]


def test_a_machine_is_offered_what_its_description_gains_from() -> None:
    wide = ["int8+rank24", "int8+rank16"]
    factored = [*wide, "w4a8+rank24", "w4a8+rank16", "int4+rank24", "int4+rank16"]
    edge = ["fp32", "int8", "w4a8", "w8a4", "int4", "int8+2:4", "w4a8+2:4", "int4+2:4"]
    assert legal(DENSE, EDGE) == edge + factored
    assert legal(DENSE, BRICKS) == ["int8", "w4a8", "w2a8", "w8a4", "int4", "w2a4", *factored]
    assert legal(DENSE, EYERISS) == ["int8", *wide]
    assert legal(DENSE, SPARSE) == [
        "int8", "int8+2:4", "int8+sparse50", "int8+sparse70", "int8+sparse85", *wide
    ]  # fmt: skip


def test_patterns_are_those_that_the_arithmetic_skips() -> None:
    unit = Compute("int8", 256, skips=(NM(1, 4),))
    machine = replace(EDGE, compute=(unit, *EDGE.compute[1:]))
    patterns = {str(scheme.sparsity) for scheme in machine_space(DENSE, machine).legal if scheme.sparsity}
    assert patterns == {"1:4", "2:4"}, "2:4 in int4"
    assert "int8+2:4" not in legal(DENSE, machine)


def test_a_filter_has_fewer_channels_or_is_split_into_rows_and_columns() -> None:
    assert [str(factor) for factor in factors(CONV)] == ["rank40", "spatial72", "rank28", "spatial48"]
    assert factors(DEPTHWISE) == ()


def test_each_refusal_says_why() -> None:
    refused = {str(scheme): reason for scheme, reason in machine_space(CONV, EYERISS).refused}
    assert refused["fp32"] == "eyeriss computes in int16, not in fp32"
    assert refused["w4a8"] == "eyeriss runs w4a8 as int16: its integers have 16 bits; int8 runs so, too"
    narrow = {str(scheme): reason for scheme, reason in machine_space(replace(CONV, C=3), EDGE).refused}
    assert narrow["int8+2:4"] == "2:4 sparsity needs a multiple of 4 inputs, got 3"


def test_tables_products_and_recurrent_layers_are_only_rounded() -> None:
    table = Layer("table", "gather", N=8, K=16, C=100)
    product = Layer("product", "matmul", N=8, K=8, C=8, weight_bearing=False)
    assert legal(table, EDGE) == ["fp32", "w8a32"]
    assert legal(table, EYERISS) == ["w8a32"]
    assert legal(product, EDGE) == legal(replace(DENSE, recurrent=True), EDGE) == ["fp32", "int8"]


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([EDGE, BRICKS, EYERISS, SPARSE]),
)
@settings(deadline=None)
def test_every_candidate_is_legal_or_refused_and_the_legal_run_as_different_schemes(
    inputs: int, outputs: int, window: int, hardware: Hardware
) -> None:
    layer = Layer("conv", "conv2d", K=outputs, C=inputs, P=8, Q=8, R=window, S=window)
    space = machine_space(layer, hardware)
    assert {*space.legal, *dict(space.refused)} == set(machine_candidates(layer, hardware))
    running = [as_run(scheme, layer, hardware)[0] for scheme in space.legal]
    assert len(set(running)) == len(running)
    assert all(why_not_run(layer, scheme, hardware) is None for scheme in running)
    assert all(why_no_factor(layer, factor) is None for factor in factors(layer))


@pytest.mark.parametrize("hardware", [EDGE, BRICKS, EYERISS, SPARSE], ids=lambda each: each.name)
def test_what_changes_least_comes_first(hardware: Hardware) -> None:
    first = machine_space(CONV, hardware).legal[0]
    assert str(first) == ("fp32" if hardware.unit("fp32") else "int8")
