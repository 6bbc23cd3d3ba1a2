"""How many bits tensors get: those of their widest readers. Layers then run with what their tensors have."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir.graph import Graph
from tersor.passes.extract import extract, tensor_names
from tersor.passes.quantization.tensors import Tensors, settled
from tersor.scheduler.widths import output_bits
from tersor.scheme import Scheme
from tests.relax_modules import Net, attention_net, residual_net

op = relax.op


def conv(net: Net, x: Any, name: str, channels: int = 4) -> Any:
    return net.emit(op.nn.relu(net.conv(x, name, np.ones((channels, 4, 1, 1), np.float32))))


def schemes(**texts: str) -> dict[str, Scheme]:
    return {f"{name}.weight": Scheme.parse(text) for name, text in texts.items()}


def bits(mod: tvm.IRModule, **texts: str) -> dict[str, int]:
    """Of the tensors that have a grid, by name."""
    names, tensors = tensor_names(mod), Tensors(Graph(mod), schemes(**texts))
    return {names[var].replace(".weight", ""): width.bits for var, width in tensors.widths.items()}


def inputs(mod: tvm.IRModule, **texts: str) -> dict[str, int]:
    """Bits that layers read, by name."""
    found = settled(mod, schemes(**texts))
    return {name.removesuffix(".weight"): scheme.input_bits for name, scheme in found.items()}


def fork() -> tvm.IRModule:
    """x -> a; b and c read a, and d what both give in a sum."""
    net = Net((1, 4, 6, 6))
    a = conv(net, net.inputs[0], "a")
    b, c = conv(net, a, "b"), conv(net, a, "c")
    return net.finish(conv(net, net.emit(op.add(b, c)), "d"))


def test_a_tensor_is_as_wide_as_the_widest_layer_that_reads_it() -> None:
    assert bits(fork(), a="int8", b="w4a4", c="w2a3", d="w4a5") == {
        "x": 8, "a:out": 4, "b:out": 5, "c:out": 5, "add.1": 5,
    }  # fmt: skip


def test_a_layer_runs_with_as_many_bits_as_its_input_has() -> None:
    assert inputs(fork(), a="w4a4", b="w4a4", c="w2a3", d="w4a5") == {"a": 4, "b": 4, "c": 4, "d": 5}


def test_settling_again_changes_nothing() -> None:
    once = settled(fork(), schemes(a="w4a4", b="w4a4", c="int8", d="w4a2"))
    assert settled(fork(), once) == once


def test_a_residual_is_as_wide_as_the_input_of_the_layer_that_adds_it() -> None:
    """x -> a -> b + x: what reads the sum does not make the residual wider."""
    mod = residual_net()
    texts = {"a": "w4a4", "b": "w4a5", "c": "int8", "d": "w4a6", "down": "int8", "fc": "int8"}
    found = bits(mod, **texts)
    assert (found["x"], found["a:out"], found["b:out"]) == (5, 5, 8)
    assert inputs(mod, **texts) == {"a": 5, "b": 5, "c": 8, "d": 6, "down": 8, "fc": 8}


def test_what_only_moves_codes_has_those_that_it_moves() -> None:
    net = Net((1, 4, 6, 6))
    a = conv(net, net.inputs[0], "a")
    pooled = net.emit(op.nn.max_pool2d(a, (2, 2), (2, 2)))
    mod = net.finish(conv(net, a, "b"), conv(net, pooled, "c"))
    assert bits(mod, a="w4a4", b="w4a6", c="w4a4") == {"x": 4, "a:out": 6, "nn.max_pool2d.1": 6}
    assert inputs(mod, a="w4a4", b="w4a6", c="w4a4")["c"] == 6


@pytest.mark.parametrize(("reader", "expected"), [("fp32", 8), ("w8a32", 8), ("w4a3", 4)])
def test_codes_that_something_reads_as_float_have_eight_bits(reader: str, expected: int) -> None:
    """A layer of integers has left nothing but codes."""
    assert bits(fork(), a="int8", b="w4a4", c=reader)["a:out"] == expected


def test_what_is_there_unrounded_is_read_so() -> None:
    """The network's input, and what a layer in float has made."""
    assert bits(fork(), a="fp32", b="w4a4", c="fp32") == {"a:out": 4}


def test_outputs_have_eight_bits() -> None:
    net = Net((1, 4, 6, 6))
    a = conv(net, net.inputs[0], "a")
    assert bits(net.finish(a, conv(net, a, "b")), a="w4a4", b="w4a4") == {"x": 4, "a:out": 8}


def test_operands_of_products_have_eight_bits() -> None:
    mod = attention_net()
    names = [layer.name for layer in extract(mod).layers]
    given = {name: Scheme.parse("int8" if name.startswith("matmul") else "w4a4") for name in names}
    tensors = Tensors(Graph(mod), given)
    assert {
        tensors.widths[var].bits for each in tensors.products.values() for var in (each.left, each.right)
    } == {8}


@pytest.mark.parametrize(
    "texts",
    [
        {"a": "w4a4", "b": "w4a5", "c": "int8", "d": "w4a6", "down": "int8", "fc": "int8"},
        {"a": "int8", "b": "w4a4", "c": "w4a4", "d": "w2a2", "down": "w2a3", "fc": "w4a4"},
    ],
)
def test_the_scheduler_has_the_same_widths(texts: dict[str, str]) -> None:
    mod = residual_net()
    network, found = extract(mod), bits(mod, **texts)
    expected = output_bits(network, settled(mod, schemes(**texts)))
    shared = [name for name in expected if f"{name.removesuffix('.weight')}:out" in found]
    assert len(shared) >= 4
    for name in shared:
        assert found[f"{name.removesuffix('.weight')}:out"] == expected[name], name
