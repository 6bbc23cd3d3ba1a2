from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir.graph import Graph, operator
from tersor.ir.grid import Grid, grid_below
from tersor.passes.canonicalize import Canonicalize
from tersor.passes.quantization.grids import normalize_grids
from tests.relax_modules import Net, run

op = relax.op
IMAGE = (1, 2, 4, 4)


def grid(net: Net, x: Any, scale: Any, zero_point: Any, dtype: str = "uint8") -> Any:
    parameters = relax.const(np.float32(scale)), relax.const(np.asarray(zero_point, dtype))
    codes = net.emit(op.quantize(x, *parameters, axis=1, out_dtype=dtype))
    return net.emit(op.dequantize(codes, *parameters, axis=1))


def normalized(mod: tvm.IRModule) -> tvm.IRModule:
    canonicalize: Any = Canonicalize()
    return canonicalize(normalize_grids(canonicalize(mod)))


def kinds(mod: tvm.IRModule) -> list[str]:
    return [operator(value) for _, value in Graph(mod).bindings]


def check(net: Net, y: Any, expected: list[str]) -> tvm.IRModule:
    """Normalize; the operators are as expected, and what is computed is the same to the last bit."""
    before = net.finish(y)
    after = normalized(before)
    assert kinds(after) == expected
    x = np.random.default_rng(0).normal(0, 3, IMAGE).astype(np.float32)
    np.testing.assert_array_equal(run(after, x)[0], run(before, x)[0])
    return after


def test_signed_codes_become_unsigned_ones() -> None:
    net = Net(IMAGE)
    after = check(net, grid(net, net.inputs[0], 0.02, -5, "int8"), ["quantize", "dequantize"])
    assert grid_below(Graph(after), Graph(after).outputs[0]) == Grid(float(np.float32(0.02)), 123)


def test_equal_scales_per_channel_become_one() -> None:
    net = Net(IMAGE)
    after = check(net, grid(net, net.inputs[0], [0.02, 0.02], [7, 7]), ["quantize", "dequantize"])
    assert grid_below(Graph(after), Graph(after).outputs[0]) == Grid(float(np.float32(0.02)), 7)


def test_pads_with_zeros_go_behind_the_grid() -> None:
    net = Net(IMAGE)
    padded = net.emit(op.nn.pad(net.inputs[0], [0, 0, 0, 0, 1, 1, 0, 2]))
    check(net, grid(net, padded, 0.02, 100), ["quantize", "dequantize", "nn.pad"])


def test_pads_with_other_values_stay() -> None:
    net = Net(IMAGE)
    padded = net.emit(op.nn.pad(net.inputs[0], [0, 0, 0, 0, 1, 1, 0, 2], "constant", 1.0))
    check(net, grid(net, padded, 0.02, 100), ["nn.pad", "quantize", "dequantize"])


@pytest.mark.parametrize(("limits", "stays"), [((0.0, 6.0), False), ((0.0, 5.0), True), ((0.1, 9.0), True)])
def test_an_activation_that_saturation_does_anyway_is_gone(limits: Any, stays: bool) -> None:
    net = Net(IMAGE)
    y = grid(net, net.emit(op.clip(net.inputs[0], *limits)), 6 / 255, 0)
    check(net, y, [*(["clip"] if stays else []), "quantize", "dequantize"])


def test_a_second_time_on_the_same_grid_changes_nothing() -> None:
    net = Net(IMAGE)
    check(net, grid(net, grid(net, net.inputs[0], 0.02, 100), 0.02, 100), ["quantize", "dequantize"])


def test_what_moves_codes_keeps_their_grid() -> None:
    net = Net(IMAGE)
    pooled = net.emit(op.nn.max_pool2d(grid(net, net.inputs[0], 0.02, -28, "int8"), (2, 2)))
    y = net.emit(op.nn.relu(net.emit(op.reshape(pooled, (1, 18)))))
    twice = ["quantize", "dequantize"]
    check(net, y, [*twice, "nn.max_pool2d", *twice, "reshape", *twice, "nn.relu"])


def test_codes_that_more_than_a_dequantize_reads_stay() -> None:
    net = Net(IMAGE)
    parameters = relax.const(np.float32(0.02)), relax.const(np.int8(3))
    codes = net.emit(op.quantize(net.inputs[0], *parameters, out_dtype="int8"))
    real = net.emit(op.dequantize(codes, *parameters))
    y = net.emit(op.add(real, net.emit(op.astype(codes, "float32"))))
    after = check(net, y, ["quantize", "dequantize", "astype", "add"])
    assert "int8" in {str(var.ty.dtype) for var, _ in Graph(after).bindings}
