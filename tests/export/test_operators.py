"""Every operator of the tables: what onnxruntime computes of the exported node is what TVM computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tersor.export import export_onnx
from tersor.export.qdq import FORMS
from tersor.frontend.verification import run_reference
from tersor.ir.graph import Graph, operator
from tests.relax_modules import Net, run

op = relax.op
IMAGE = (1, 4, 6, 8)
RANDOM = np.random.default_rng(0)


def const(*shape: int) -> Any:
    return relax.const(RANDOM.uniform(0.5, 1.5, shape).astype(np.float32))


def indices(*values: int) -> Any:
    return relax.const(np.array(values), "int64")


Build = Callable[[Any], Any]


def of_positive(function: Any) -> Build:
    return lambda x: function(op.add(op.exp(x), relax.const(1.0)))


def of_fractions(function: Any) -> Build:
    return lambda x: function(op.multiply(op.sigmoid(x), relax.const(0.9)))


def with_channels(function: Any) -> Build:
    return lambda x: function(x, const(4, 1, 1))


def comparison(function: Any) -> Build:
    return lambda x: op.where(function(x, relax.const(0.3)), x, op.negative(x))


def logical(function: Any) -> Build:
    return lambda x: op.astype(
        function(op.greater(x, relax.const(0.1)), op.less(x, relax.const(0.9))), "float32"
    )


def reduction(function: Any, *arguments: Any) -> Build:
    return lambda x: function(x, *arguments)


def resize(x: Any, size: tuple[int, int], method: str, coordinates: str, rounding: str) -> Any:
    return op.image.resize2d(
        x, size, method=method, coordinate_transformation_mode=coordinates, rounding_method=rounding
    )


UNARY = [
    op.nn.relu, op.nn.silu, op.nn.gelu, op.nn.gelu_tanh, op.sigmoid, op.tanh, op.erf, op.exp,
    op.abs, op.negative, op.sign, op.floor, op.ceil, op.round, op.sin, op.cos, op.tan, op.sinh, op.cosh,
    op.atan, op.asinh, op.square,
]  # fmt: skip
POSITIVE = [op.log, op.sqrt, op.rsqrt, op.acosh]  # of more than one
FRACTIONS = [op.asin, op.acos, op.atanh]
BINARY = [op.add, op.subtract, op.multiply, op.divide, op.maximum, op.minimum]
COMPARISONS = [op.equal, op.less, op.less_equal, op.greater, op.greater_equal]

CASES: list[Build] = [
    *UNARY,
    *(of_positive(f) for f in POSITIVE),
    *(of_fractions(f) for f in FRACTIONS),
    *(with_channels(f) for f in BINARY),
    *(comparison(f) for f in COMPARISONS),
    lambda x: op.power(op.abs(x), relax.const(1.5)),
    *(logical(f) for f in (op.logical_and, op.logical_or, op.logical_xor)),
    lambda x: op.astype(op.logical_not(op.greater(x, relax.const(0.1))), "int32"),
    lambda x: op.astype(op.isnan(x), "float32"),
    lambda x: op.astype(op.isinf(x), "float32"),
    lambda x: op.clip(x, -0.5, 0.7),
    lambda x: op.clip(x, 0.1, float("inf")),
    lambda x: op.nn.leakyrelu(x, 0.2),
    lambda x: op.nn.prelu(x, const(4), 1),
    lambda x: op.nn.conv2d(x, const(6, 2, 3, 3), strides=(2, 1), padding=(0, 1, 2, 1), groups=2),
    lambda x: op.nn.conv2d(x, const(3, 4, 2, 2), dilation=(2, 2)),
    lambda x: op.nn.conv2d_transpose(x, const(4, 3, 3, 3), strides=(2, 2), output_padding=(1, 1)),
    lambda x: op.nn.conv1d(op.reshape(x, (1, 4, 48)), const(5, 4, 3), padding=1),
    lambda x: op.nn.conv3d(op.reshape(x, (1, 2, 2, 6, 8)), const(3, 2, 1, 3, 3), padding=(0, 1, 1)),
    lambda x: op.matmul(x, const(8, 5)),
    lambda x: op.matmul(x, op.permute_dims(x, [0, 1, 3, 2])),
    lambda x: op.nn.max_pool2d(x, (3, 2), strides=(2, 2), padding=(1, 0, 1, 0)),
    lambda x: op.nn.avg_pool2d(x, (2, 2), strides=(2, 2)),
    lambda x: op.nn.avg_pool2d(x, (3, 3), padding=(1, 1, 1, 1), count_include_pad=True),
    lambda x: op.nn.adaptive_avg_pool2d(x, (1, 1)),
    lambda x: op.nn.pad(x, [0, 0, 0, 0, 1, 2, 0, 1], "constant", 0.5),
    lambda x: op.nn.pad(x, [0, 0, 0, 0, 1, 2, 1, 1], "reflect"),
    lambda x: resize(x, (12, 16), "nearest_neighbor", "asymmetric", "floor"),
    lambda x: resize(x, (9, 16), "linear", "half_pixel", ""),
    lambda x: op.nn.layer_norm(x, const(8), const(8), axes=[-1]),
    lambda x: op.nn.instance_norm(x, const(4), const(4), 1, [2, 3]),
    lambda x: op.nn.softmax(x, -1),
    lambda x: op.nn.softmax(x, 1),
    lambda x: op.nn.log_softmax(x, -1),
    lambda x: op.reshape(x, (2, 2, 48)),
    lambda x: op.flatten(x),
    lambda x: op.squeeze(x, [0]),
    lambda x: op.expand_dims(x, [0, 3]),
    lambda x: op.permute_dims(x, [0, 2, 3, 1]),
    lambda x: op.permute_dims(x),
    lambda x: op.concat([x, op.nn.relu(x)], 1),
    lambda x: op.strided_slice(x, [1, 3], [1, 7], [3, 0], [1, -2]),
    lambda x: op.strided_slice(x, [2], [2], [5]),
    lambda x: op.take(x, indices(2, 0, 2), 1),
    lambda x: op.take(op.reshape(x, (192,)), indices(5, 90)),
    lambda x: op.gather_elements(x, relax.const(np.zeros((1, 4, 6, 2)), "int64"), 3),
    lambda x: op.gather_nd(x, relax.const(np.array([[0, 1], [0, 3]]), "int64")),
    lambda x: op.broadcast_to(x, (3, 4, 6, 8)),
    lambda x: op.tile(x, (2, 1, 1, 2, 1)),
    lambda x: op.tile(x, (2, 1)),
    lambda x: op.cumsum(x, 2),
    lambda x: op.add(x, op.full((8,), relax.const(np.float32(2.5)), "float32")),
    *(reduction(f, [1, -1], True) for f in (op.mean, op.sum, op.max, op.min, op.prod)),
    *(reduction(f) for f in (op.mean, op.sum, op.max, op.variance)),
    lambda x: op.mean(x, [2, 3], True),
    lambda x: op.mean(x, [2, 3]),
    lambda x: op.variance(x, [1], True),
    lambda x: op.argmax(x, 2),
    lambda x: op.argmax(x),
    lambda x: op.argmin(x, -1, True),
]  # fmt: skip


def module(build: Build) -> Any:
    net = Net(IMAGE)
    return net.finish(emitted(net, build(net.inputs[0])))


def emitted(net: Net, expr: Any) -> Any:
    """Bind every call inside an expression: the builder wants straight lines."""
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([emitted(net, field) for field in expr.fields])
    if not isinstance(expr, relax.Call):
        return expr
    arguments = [emitted(net, argument) for argument in expr.args]
    return net.emit(relax.Call(expr.op, arguments, expr.attrs, expr.ty_args))


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_node_computes_what_the_operator_computes(index: int) -> None:
    mod = module(CASES[index])
    x = np.random.default_rng(index).normal(size=IMAGE).astype(np.float32)
    expected: Any = run(mod, x)[0]
    result: Any = run_reference(export_onnx(mod, ["y"]), {"x": x}, ["y"])["y"]
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=2e-4, atol=2e-5)


def test_parts_of_a_split_are_tensors_of_their_own() -> None:
    net = Net(IMAGE)
    parts = net.emit(op.split(net.inputs[0], [1, 3], 1))
    first, last = net.emit(relax.TupleGetItem(parts, 0)), net.emit(relax.TupleGetItem(parts, 2))
    mod = net.finish(net.emit(op.add(first, last)))
    x = np.random.default_rng(0).normal(size=IMAGE).astype(np.float32)
    result = run_reference(export_onnx(mod, ["y"]), {"x": x}, ["y"])["y"]
    np.testing.assert_array_equal(result, x[:, :1] + x[:, 3:])


def test_every_operator_of_the_tables_has_a_case() -> None:
    tried = {operator(value) for case in CASES for _, value in Graph(module(case)).bindings}
    # Of other dimensions than images, and of pools and transposed convolutions, one stands for all.
    same = {
        name for name in FORMS if name.startswith(("nn.conv", "nn.max_pool", "nn.avg_pool", "nn.adaptive"))
    }
    assert set(FORMS) - same <= tried
