"""Everything that stays on the CPU has a reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tersor.hardware import Hardware
from tersor.ir.graph import Graph
from tersor.ir.untyped import relax
from tersor.scheme import Scheme
from tersor.targets.accelerator.offload.composite import find_composites
from tersor.targets.accelerator.offload.refusals import Refusal, find_refusals, why_not
from tests.relax_modules import Net
from tests.targets.accelerator.offload.networks import integer_attention_net, integer_image_net

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")


def test_what_is_between_floats_and_codes_or_moves_data_stays_on_the_cpu() -> None:
    graph = Graph(integer_image_net())
    assert find_refusals(graph, find_composites(graph, {}), {}, EDGE) == (
        Refusal("quantize.1", "goes between floating-point numbers and codes; edge has only the codes"),
        Refusal("reshape.1", "moves data and computes nothing"),
    )


def test_float_operators_of_an_attention_block_stay_on_the_cpu() -> None:
    graph = Graph(integer_attention_net())
    found = {each.name: each for each in find_refusals(graph, find_composites(graph, {}), {}, EDGE)}
    assert found["take.1"].reason == "looks rows up and multiplies nothing"
    assert found["divide.1"].reason == "computes in floating point, edge's programs in integers"
    assert found["permute_dims.4"].reason == "moves data and computes nothing"
    assert sum(each.macs for each in found.values()) == 0


def test_a_float_layer_brings_its_products_along() -> None:
    net = Net((2, 8))
    y = net.dense(net.inputs[0], "fc", np.ones((8, 4), np.float32), np.ones(4, np.float32))
    graph = Graph(net.finish(net.emit(relax.op.nn.softmax(y))))
    assert find_refusals(graph, [], {}, EDGE) == (
        Refusal("matmul.1", "computes in floating point, edge's programs in integers", 2 * 8 * 4),
        Refusal("add.1", "computes in floating point, edge's programs in integers"),
        Refusal("nn.softmax.1", "computes in floating point, edge's programs in integers"),
    )


def test_a_composite_that_was_refused_is_told_once_with_its_own_reason() -> None:
    graph = Graph(integer_image_net())
    first, *others = find_composites(graph, {})
    refused = {first.result: Refusal(first.name, "it is too large", first.macs)}
    found = find_refusals(graph, others, refused, EDGE)
    assert [each.name for each in found] == ["quantize.1", "first.weight", "reshape.1"]
    assert found[1] == Refusal("first.weight", "it is too large", 82944)


def test_a_machine_refuses_what_it_has_no_arithmetic_or_no_memory_for() -> None:
    graph = Graph(integer_image_net())
    schemes = {"first.weight": Scheme.parse("int8")}
    first, largest, *_ = find_composites(graph, schemes)
    assert why_not(first, EDGE) is None
    floats = replace(EDGE, compute=tuple(unit for unit in EDGE.compute if not unit.is_integer))
    assert why_not(first, floats) == "edge computes in fp32, not in int8"
    dense_only = replace(EDGE, operators=("matmul",))
    assert why_not(first, dense_only) == "edge runs matmul, not conv2d"
    dram, buffer, registers = EDGE.memories
    small = replace(EDGE, memories=(dram, replace(buffer, size=64), registers))
    reason = why_not(largest, small)
    assert reason is not None
    assert reason.startswith("the rows of max_pool2d.1 need ")
    assert "in buffer" in reason
