from dataclasses import replace
from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.factor import LowRank
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.machine_map import MachineMap, map_network
from tersor.network import Edge, Network
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator import roofline

EDGE = Hardware.load(Path(__file__).parents[1] / "targets" / "machines" / "edge.toml")
DENSE = Layer("fc", "matmul", N=8, K=64, C=48)
FIRST = Layer("first", "conv2d", K=16, C=3, P=8, Q=8, R=3, S=3, padding=(1, 1, 1, 1))
TABLE = Layer("table", "gather", N=16, K=64, C=1000)
PRODUCT = Layer("product", "matmul", N=8, G=2, K=8, C=16, weight_bearing=False)


def mapped(*layers: Layer, scheme: str = "int8") -> MachineMap:
    return map_network(Network(layers), EDGE, Scheme.parse(scheme), effort=2_000)


def test_energies_add_up_and_the_array_makes_no_more_products_than_it_can() -> None:
    found = mapped(DENSE, FIRST, TABLE, PRODUCT)
    for layer in found.layers:
        assert sum(layer.energy_by.values()) == pytest.approx(layer.energy)
        assert layer.cycles * layer.peak >= layer.macs
        assert sum(layer.waits.values()) <= layer.cycles
    assert found.cycles == sum(layer.cycles for layer in found.layers)
    assert found.refused == found.reduced == {}


def test_what_is_at_work_the_longest_bounds_a_layer() -> None:
    single = Layer("vector", "matmul", K=512, C=512)
    many = Layer("matrix", "matmul", N=512, K=512, C=512)
    assert [layer.bound_by for layer in mapped(single, many).layers] == ["dram", "compute"]


def test_the_factors_of_a_layer_are_mapped_one_by_one() -> None:
    found = mapped(DENSE, scheme="int8+rank16")
    assert [(layer.name, layer.part_of) for layer in found.layers] == [("fc.0", "fc"), ("fc.1", "fc")]
    alone = map_network(Network(DENSE.factored(LowRank(16))), EDGE, INT8, effort=2_000)
    assert [layer.cycles for layer in found.layers] == [layer.cycles for layer in alone.layers]


def test_what_a_layer_cannot_have_of_a_scheme_is_left_out_with_the_reason() -> None:
    found = mapped(DENSE, FIRST, PRODUCT, scheme="int8+2:4+dynamic")
    assert [layer.scheme for layer in found.layers] == ["int8+2:4", "int8", "int8"]
    assert "needs a multiple of 4 inputs, got 3" in found.reduced["first"]
    assert "edge finds no ranges" in found.reduced["fc"]


def test_rows_of_a_table_are_read_and_written_at_the_speed_of_the_outermost_memory() -> None:
    (found,) = mapped(TABLE).layers
    cost = roofline.estimate(TABLE, INT8, EDGE)
    assert found.cycles == pytest.approx(cost.seconds * EDGE.clock)
    assert found.energy == cost.energy
    assert (found.macs, found.tree, found.bound_by) == (0, "", "dram")


def test_rows_of_a_recurrent_layer_come_one_after_the_other() -> None:
    recurrent = Layer("lstm", "matmul", N=12, K=64, C=16, recurrent=True)
    (found,) = mapped(recurrent).layers
    (step,) = mapped(Layer("step", "matmul", K=64, C=16)).layers
    assert found.cycles == pytest.approx(12 * step.cycles)
    assert sum(found.energy_by.values()) == pytest.approx(found.energy)


def test_each_layer_has_its_own_scheme_and_without_one_is_float() -> None:
    schemes = {"fc": Scheme.parse("w4a4"), "first": INT8}
    found = map_network(Network((DENSE, FIRST, PRODUCT)), EDGE, schemes, effort=2_000)
    assert [layer.scheme for layer in found.layers] == ["int4", "int8", "fp32"]
    assert [layer.peak for layer in found.layers] == [512, 256, 16]


def test_a_tensor_is_written_as_wide_as_the_widest_of_its_readers() -> None:
    widths = {}
    for readers in ("int4 int4", "int4 int8"):
        layers = (replace(DENSE, C=64), *(replace(DENSE, name=name) for name in ("left", "right")))
        edges = tuple(Edge("fc", name, (8, 64)) for name in ("left", "right"))
        schemes = dict(zip(("fc", "left", "right"), ("int4", *readers.split()), strict=True))
        found = map_network(
            Network(layers, edges),
            EDGE,
            {name: Scheme.parse(text) for name, text in schemes.items()},
            effort=2_000,
        )
        widths[readers] = found.layers[0].bytes["dram"]
    assert widths["int4 int8"] - widths["int4 int4"] == 8 * 64 / 2


def test_what_no_unit_computes_is_refused_and_channels_ask_for_a_plan() -> None:
    assert "not in int16" in mapped(DENSE, scheme="w16a16").refused["fc"]
    with pytest.raises(UserError, match="give a plan"):
        mapped(DENSE, scheme="int8+channels50")
