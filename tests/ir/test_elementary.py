from collections.abc import Callable
from math import erf

import numpy as np
import pytest
import tvm
from tvm import relax, te, tirx

from tersor.ir import elementary
from tersor.lowering import build
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Net

Array = np.ndarray
HOST = detect(cores=2)
DENSE = np.linspace(-95, 95, 40001).astype(np.float32)
SMALL = np.geomspace(1e-30, 1, 4001).astype(np.float32)
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, 1e30, -1e30], np.float32)
VALUES = np.concatenate([DENSE, SMALL, -SMALL, SPECIAL])


def exact_erf(x: Array) -> Array:
    return np.array([erf(value) for value in x])


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + exact_erf(x / np.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def compute(function: Callable, values: Array) -> Array:
    x = te.placeholder((tirx.IntImm("int64", values.size),), "float32", "x")
    y = te.compute(x.shape, lambda i: function(x(i)))
    compiled = tvm.tirx.build(te.create_prim_func([x, y]), target=HOST.target)
    result = tvm.runtime.tensor(np.empty_like(values))
    compiled["main"](tvm.runtime.tensor(values), result)
    return result.numpy()


@pytest.mark.parametrize(
    ("name", "exact", "relative", "absolute"),
    [
        ("exp", np.exp, 2e-7, 2.6e-38),
        ("sigmoid", sigmoid, 4e-7, 2.6e-38),
        ("tanh", np.tanh, 6e-7, 0.0),
        ("erf", exact_erf, 0.0, 5e-7),
        ("silu", lambda x: x * sigmoid(x), 4e-7, 3e-36),
    ],
)
def test_a_function_is_as_exact_as_float32(
    name: str, exact: Callable, relative: float, absolute: float
) -> None:
    values = VALUES[np.isfinite(VALUES)] if name == "silu" else VALUES
    with np.errstate(over="ignore", invalid="ignore"):
        expected = exact(values.astype(np.float64)).astype(np.float32)
    got = compute(getattr(elementary, name), values)
    finite = np.isfinite(expected)
    np.testing.assert_allclose(got[finite], expected[finite], rtol=relative, atol=absolute)
    np.testing.assert_array_equal(got[~finite], expected[~finite])


@pytest.mark.parametrize(("name", "exact"), [("gelu", gelu), ("gelu_tanh", gelu_tanh)])
def test_a_gelu_is_as_exact_as_its_argument_is_large(name: str, exact: Callable) -> None:
    got = compute(getattr(elementary, name), DENSE)
    np.testing.assert_allclose(got, exact(DENSE.astype(np.float64)), rtol=5e-7, atol=4e-6)


@pytest.mark.parametrize("axis", [-1, 1])
def test_operators_of_a_network_are_computed_by_them(axis: int) -> None:
    op = relax.op
    unary = (op.exp, op.sigmoid, op.tanh, op.erf, op.nn.gelu, op.nn.silu, lambda x: op.nn.softmax(x, axis))
    net = Net((2, 5, 7))
    mod = net.finish(*(net.emit(function(net.inputs[0])) for function in unary))
    x = np.random.default_rng(0).normal(0, 3, (2, 5, 7)).astype(np.float32)
    power = np.exp(x - x.max(axis, keepdims=True))
    expected = [np.exp(x), sigmoid(x), np.tanh(x), exact_erf(x.ravel()).reshape(x.shape)]
    expected += [gelu(x.ravel()).reshape(x.shape), x * sigmoid(x), power / power.sum(axis, keepdims=True)]
    results = relax.VirtualMachine(build(lower(mod, HOST.isa, 2), HOST), tvm.cpu())["main"](
        tvm.runtime.tensor(x)
    )
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.numpy(), wanted, rtol=2e-6, atol=2e-6)


def test_other_precisions_keep_their_own() -> None:
    net = Net((4,), "float64")
    mod = net.finish(net.emit(relax.op.exp(net.inputs[0])))
    x = np.array([-1.0, 0.0, 0.5, 3.0])
    result = relax.VirtualMachine(build(lower(mod, HOST.isa, 2), HOST), tvm.cpu())["main"](
        tvm.runtime.tensor(x)
    )
    np.testing.assert_allclose(result.numpy(), np.exp(x), rtol=1e-14)
