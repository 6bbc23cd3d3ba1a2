"""Every operator's PrimFunc, compiled on plain llvm, gives the bits of its function in arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor import arithmetic as A
from tersor.ir.graph import Graph
from tersor.ir.operators import (
    Add,
    AveragePool,
    Dequantize,
    FakeQuantize,
    GatherRows,
    Operator,
    Product,
    Quantize,
    QuantizeRows,
    Requantize,
    RequantizeAdd,
    Rescale,
    RescaleAccumulator,
    RowScale,
    call_arguments,
    prim_func,
    read_operator,
)
from tests.relax_modules import Net

RNG = np.random.default_rng(0)
SHAPE = (2, 7, 5, 9)
EXTREMES = np.array(
    [0, 1, -1, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**31 - 1, -(2**31)], np.int32
)
TIES = np.array([0.5, 0.25, 1.0, 2**-10, 1.5, 0.0, 3.0], np.float32)  # exact, so that halves are common
DRAWN = RNG.uniform(1e-5, 1e-2, 7).astype(np.float32)


def accumulators(limit: int) -> np.ndarray:
    drawn = RNG.integers(-limit, limit, SHAPE).astype(np.int32)
    flat = drawn.reshape(-1)
    flat[: EXTREMES.size * 30] = np.tile(EXTREMES, 30)
    return drawn


def codes(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape or SHAPE).astype(np.uint8)


def floats() -> np.ndarray:
    drawn = RNG.normal(0, 40, SHAPE).astype(np.float32)
    drawn.reshape(-1)[:100] = np.arange(-50, 50) / 2
    drawn.reshape(-1)[100:104] = [1e30, -1e30, 1e-40, -0.0]
    return drawn


ROWS = np.concatenate([RNG.normal(0, 10.0**e, (1, 3, 33)) for e in range(-6, 7, 3)]).astype(np.float32)
ROWS[0, 0] = 0


@dataclass(frozen=True)
class Case:
    operator: Operator
    arguments: tuple[np.ndarray, ...]
    expected: np.ndarray


def case(operator: Operator, reference: Callable[..., np.ndarray], *arguments: np.ndarray) -> Case:
    return Case(operator, arguments, reference(*arguments))


def requantize_case(multiplier: np.ndarray, zero_point: int, bounds: tuple[int, int]) -> Case:
    step = Requantize(zero_point, bounds)
    acc = accumulators(100_000)
    return case(step, lambda acc, m: A.requantize(acc, m, zero_point, bounds), acc, multiplier)


def requantize_add_case(multiplier: np.ndarray, ratio: float, zero: int, bounds: tuple[int, int]) -> Case:
    step = RequantizeAdd(ratio, 77, zero, bounds)
    return case(
        step,
        lambda acc, m, r: A.requantize_add(acc, m, r, ratio, 77, zero, bounds),
        accumulators(100_000),
        multiplier,
        codes(),
    )


def average_case(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    channels_last: bool,
    bounds: tuple[int, int] = A.UINT8,
) -> Case:
    multiplier = float(np.float32(1.3 / (kernel[0] * kernel[1])))
    step = AveragePool(kernel, stride, multiplier, 7, 19, bounds, channels_last)
    x = codes()
    pooled = A.average_pool(x, multiplier, 7, 19, kernel, stride, bounds)
    if channels_last:
        return Case(step, (np.ascontiguousarray(x.transpose(0, 2, 3, 1)),), pooled.transpose(0, 2, 3, 1))
    return Case(step, (x,), pooled)


def last_axis(acc: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(acc.transpose(0, 2, 3, 1))


def on_grid(x: np.ndarray, scale: float, zero: int, most: int) -> np.ndarray:
    return A.dequantize(A.quantize(x, scale, zero, (0, most)), scale, zero)


def fake_case(
    step: np.ndarray, control: tuple[int, int, int], expected: Callable[[np.ndarray], np.ndarray]
) -> Case:
    """A fake quantizer whose steps are along axis 1."""
    return case(FakeQuantize(1), lambda x, *_: expected(x), floats(), step, np.array(control, np.float32))


def by_channels(x: np.ndarray) -> np.ndarray:
    return np.stack([on_grid(x[:, i], float(step), 9, 15) for i, step in enumerate(TIES + 1)], axis=1)


def by_rows(x: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    scale = A.row_scale(x)
    return (A.quantize_rows(x, scale).astype(np.float32) - A.SYMMETRIC_ZERO) * scale


X = floats()
CASES = {
    "quantize": case(Quantize(0.5, 131), lambda x: A.quantize(x, 0.5, 131), floats()),
    "quantize drawn": case(Quantize(0.0371, 0), lambda x: A.quantize(x, 0.0371, 0), floats()),
    "quantize wide": case(
        Quantize(3.3e5, 255), lambda x: A.quantize(x, 3.3e5, 255), np.float32(1e6) * floats()
    ),
    "quantize to 4 bits": case(Quantize(0.1, 7, (0, 15)), lambda x: A.quantize(x, 0.1, 7, (0, 15)), floats()),
    "fake_quantize": fake_case(np.float32([0.5]), (131, 255, 1), lambda x: on_grid(x, 0.5, 131, 255)),
    "fake_quantize to 4 bits": fake_case(np.float32([0.1]), (7, 15, 1), lambda x: on_grid(x, 0.1, 7, 15)),
    "fake_quantize off": fake_case(np.float32([0.5]), (131, 255, 0), lambda x: x),
    "fake_quantize channels": fake_case(TIES + 1, (9, 15, 1), by_channels),
    "fake_quantize rows": case(
        FakeQuantize(1), by_rows, X, np.float32([1.0]), np.float32([128, 255, 2]), A.row_scale(X)
    ),
    "dequantize": case(Dequantize(0.0371, 200), lambda x: A.dequantize(x, 0.0371, 200), codes()),
    "requantize ties": requantize_case(TIES, 3, (0, 255)),
    "requantize": requantize_case(DRAWN, 128, (0, 255)),
    "requantize relu6": requantize_case(DRAWN, 17, (17, 201)),
    "requantize one code": requantize_case(DRAWN, 255, (9, 9)),
    "requantize dense": case(
        Requantize(5, (5, 255), 3),
        lambda acc, m: A.requantize(acc, m, 5, (5, 255), 3),
        last_axis(accumulators(9000)),
        DRAWN,
    ),
    "requantize_add ties": requantize_add_case(TIES, 0.5, 3, (0, 255)),
    "requantize_add": requantize_add_case(DRAWN, 1.37, 128, (128, 240)),
    "requantize_add limit": requantize_add_case(np.float32(1e4) * DRAWN, 3000.0, 128, (0, 255)),
    "requantize_add dense": case(
        RequantizeAdd(0.5, 1, 5, (0, 255), 3),
        lambda acc, m, r: A.requantize_add(acc, m, r, 0.5, 1, 5, axis=3),
        last_axis(accumulators(9000)),
        TIES,
        last_axis(codes()),
    ),
    "rescale_accumulator": case(RescaleAccumulator(), A.rescale_accumulator, accumulators(2**30), DRAWN),
    "rescale_accumulator dense": case(
        RescaleAccumulator(3), lambda a, s: A.rescale_accumulator(a, s, 3), last_axis(accumulators(99)), DRAWN
    ),
    "add": case(
        Add(0.5, 3, 1.5, 250, 128), lambda a, b: A.add(a, 0.5, 3, b, 1.5, 250, 128), codes(), codes()
    ),
    "add relu": case(
        Add(0.77, 3, 5e3, 0, 10, (10, 255)),
        lambda a, b: A.add(a, 0.77, 3, b, 5e3, 0, 10, (10, 255)),
        codes(),
        codes(),
    ),
    "rescale": case(Rescale(0.5, 7, 90), lambda x: A.rescale(x, 0.5, 7, 90), codes()),
    "rescale relu": case(
        Rescale(1.9, 100, 9, (9, 130)), lambda x: A.rescale(x, 1.9, 100, 9, (9, 130)), codes()
    ),
    "average_pool": average_case((2, 3), (1, 2), False),
    "average_pool all": average_case((5, 9), (1, 1), False),
    "average_pool to 4 bits": average_case((2, 2), (2, 2), False, (0, 15)),
    "average_pool channels last": average_case((2, 2), (2, 2), True),
    "average_pool overlapping channels last": average_case((3, 4), (1, 1), True),
    "product": case(
        Product(77, 128), lambda a, b: A.product(a, 77, b, 128), codes(2, 3, 5, 7), codes(2, 3, 7, 4)
    ),
    "product of vectors": case(Product(0, 9), lambda a, b: A.product(a, 0, b, 9), codes(1, 7), codes(7, 1)),
    "row_scale": case(RowScale(), A.row_scale, floats()),
    "row_scale zeros": case(RowScale(), A.row_scale, np.zeros((3, 5), np.float32)),
    "quantize_rows": case(QuantizeRows(), A.quantize_rows, ROWS, A.row_scale(ROWS)),
    "gather_rows": case(
        GatherRows(),
        A.gather_rows,
        RNG.integers(-127, 128, (11, 6)).astype(np.int8),
        RNG.uniform(0.1, 2, 11).astype(np.float32),
        np.array([[0, 10, 3], [11, -1, 2**40]]),
    ),
}


def build(found: Case) -> Any:
    return prim_func(found.operator, *((each.shape, str(each.dtype)) for each in found.arguments))


@pytest.fixture(scope="module")
def compiled() -> Any:
    functions = {
        f"f{i}": build(each).with_attr("global_symbol", f"f{i}") for i, each in enumerate(CASES.values())
    }
    return tvm.tirx.build(tvm.IRModule(functions), target=tvm.target.Target({"kind": "llvm"}))


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_its_arithmetic(compiled: Any, name: str) -> None:
    found = CASES[name]
    output = np.empty_like(found.expected, order="C")
    assert str(output.dtype) == found.operator.output
    arguments = [tvm.runtime.tensor(each) for each in (*found.arguments, output)]
    compiled[f"f{list(CASES).index(name)}"](*arguments)
    np.testing.assert_array_equal(arguments[-1].numpy(), found.expected)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_read_back_from_a_module(name: str) -> None:
    found = CASES[name]
    function = build(found)
    out = [int(extent) for extent in function.params[-1].shape]
    block = relax.BlockBuilder()
    inputs = [
        relax.Var(f"a{i}", relax.TensorType(each.shape, str(each.dtype)))
        for i, each in enumerate(found.arguments)
    ]
    with block.function("main", inputs, attrs={"num_input": len(inputs)}):
        with block.dataflow():
            called = relax.call_tir(
                block.add_func(function, found.operator.name),
                inputs,
                relax.TensorType(out, found.operator.output),
            )
            output = block.emit_output(called)
        block.emit_func_output(output)
    graph = Graph(block.finalize())
    ((_, value),) = graph.bindings
    assert read_operator(graph.mod, value) == found.operator
    assert call_arguments(value) == graph.inputs


def test_every_operator_is_tested() -> None:
    assert {each.operator.name for each in CASES.values()} == {kind.name for kind in Operator.__args__}


def test_scales_are_kept_to_the_last_bit() -> None:
    scale = float(np.nextafter(np.float32(0.1), np.float32(1)))
    net = Net((2, 2))
    graph = Graph(net.finish(net.call(Quantize(scale, 3), *net.inputs)))
    assert read_operator(graph.mod, graph.bindings[0][1]) == Quantize(scale, 3)


def test_what_is_no_operator_reads_as_none() -> None:
    net = Net((2, 2))
    (x,) = net.inputs
    graph = Graph(net.finish(net.emit(relax.op.nn.relu(x))))
    assert read_operator(graph.mod, graph.bindings[0][1]) is None
    assert read_operator(graph.mod, graph.inputs[0]) is None
    foreign = tvm.te.create_prim_func(_doubled()).without_attr("global_symbol")
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with block.function("main", [x], attrs={"num_input": 1}):
        with block.dataflow():
            called = relax.call_tir(block.add_func(foreign, "double"), [x], relax.TensorType((4,), "float32"))
            output = block.emit_output(called)
        block.emit_func_output(output)
    graph = Graph(block.finalize())
    assert read_operator(graph.mod, graph.bindings[0][1]) is None


def _doubled() -> list[Any]:
    x = tvm.te.placeholder((4,), "float32")
    return [x, tvm.te.compute((4,), lambda i: x[i] * 2)]
