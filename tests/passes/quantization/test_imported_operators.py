"""Each operator between its grids, as other tools write it: our codes are onnxruntime's, or the next ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import tvm

from tersor.frontend import import_model, static_model
from tersor.frontend.verification import random_inputs, run_reference
from tersor.ir.graph import Graph, operator
from tersor.passes.integerize import integerize
from tests.quantized_models import Qdq
from tests.relax_modules import run

STEP = 0.05  # of the result's grid
SAME = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])
Grid = Callable[..., str]


def conv(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("Conv", x, net.weight("w", (6, 4, 3, 3)), net.bias("b", 6), name="y", **SAME)


def conv_relu(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("Relu", conv(net, x, grid), name="relu")


def conv_clip(net: Qdq, x: str, grid: Grid) -> str:
    bounds = [net.constant("low", np.float32(-0.3)), net.constant("high", np.float32(1.1))]
    return net.op("Clip", conv(net, x, grid), *bounds, name="clip")


def depthwise(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("Conv", x, net.weight("w", (4, 1, 3, 3)), name="y", group=4, strides=[2, 2], **SAME)


def conv_residual(net: Qdq, x: str, grid: Grid) -> str:
    y = net.op("Conv", x, net.weight("w", (4, 4, 3, 3)), net.bias("b", 4), name="c", **SAME)
    return net.op("Relu", net.op("Add", grid(y, 0.04, 5), x, name="y"), name="relu")


def fused_residual(net: Qdq, x: str, grid: Grid) -> str:
    y = net.op("Conv", x, net.weight("w", (4, 4, 3, 3)), net.bias("b", 4), name="c", **SAME)
    return net.op("Add", y, x, name="y")


def gemm(net: Qdq, x: str, grid: Grid) -> str:
    y = net.op("Flatten", x, name="flatten")
    return net.op("Gemm", y, net.weight("w", (5, 144)), net.bias("b", 5), name="y", transB=1, alpha=0.5)


def matmul(net: Qdq, x: str, grid: Grid) -> str:
    product = net.op("MatMul", x, net.weight("w", (6, 5), axis=1), name="y")
    return net.op("Add", product, net.bias("b", 5), name="sum")


def concat(net: Qdq, x: str, grid: Grid) -> str:
    y = net.op("Conv", x, net.weight("w", (3, 4, 3, 3)), name="c", **SAME)
    return net.op("Concat", grid(y, 0.07, -9), x, name="y", axis=1)


def max_pool(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("MaxPool", x, name="y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def average_pool(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("AveragePool", x, name="y", kernel_shape=[2, 2], strides=[2, 2])


def global_average(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("GlobalAveragePool", x, name="y")


def relu_alone(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("Relu", x, name="y")


def another_grid(net: Qdq, x: str, grid: Grid) -> str:
    return net.op("Identity", x, name="y")


BUILD = [
    conv, conv_relu, conv_clip, depthwise, conv_residual, fused_residual, gemm, matmul, concat, max_pool,
    average_pool, global_average, relu_alone, another_grid,
]  # fmt: skip


@pytest.mark.parametrize("signed", [False, True], ids=["u8", "s8"])
@pytest.mark.parametrize("build", BUILD, ids=lambda build: build.__name__)
def test_codes_differ_by_one_at_most(build: Any, signed: bool) -> None:
    net = Qdq((1, 4, 6, 6))
    shift, dtype = (0, "int8") if signed else (128, "uint8")

    def grid(x: str, scale: float, zero_point: int) -> str:
        return net.grid(x, scale, zero_point + shift, dtype)

    model = net.finish(grid(build(net, grid("x", 0.03, -7), grid), STEP, 3), rank=4)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    mod = integerize(import_model(model))
    assert_in_integers(mod)
    x = random_inputs(static_model(model))
    name = model.graph.output[0].name
    expected: Any = run_reference(onnx.shape_inference.infer_shapes(model), x, [name])[name]
    steps = np.rint((run(mod, *x.values())[0] - expected) / STEP)
    assert np.abs(steps).max() <= 1
    # The two terms of a sum are rounded one by one, by ours only.
    assert (steps != 0).mean() <= (0.4 if "residual" in build.__name__ else 0.1)
    assert np.ptp(expected) > 5 * STEP  # there is something to compare


def assert_in_integers(mod: tvm.IRModule) -> None:
    """Between the first quantization and the last dequantization there is nothing in float."""
    made = [str(var.ty.dtype) for var, _ in Graph(mod).bindings]
    assert made[0] == "uint8"
    assert "float32" not in made[:-1]
    assert operator(Graph(mod).bindings[-1][1]) != "add"
