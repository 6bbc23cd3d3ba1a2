"""A scheduled function computes what the unscheduled one computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import tirx as T

from tersor.ir.graph import shape_of
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import KERNEL
from tersor.targets.cpu.schedule import compact, schedule_function, schedule_module
from tests.relax_modules import Net

op = relax.op
HOST = detect(cores=2)


def legalized(build: Callable[[Net, Any], Any], shape: tuple[int, ...], dtype: str) -> tvm.IRModule:
    """The PrimFuncs of a small network, fused as the pipeline fuses them; nothing is scheduled yet."""
    net = Net(shape, dtype)
    passes = [
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ]
    return tvm.transform.Sequential(passes)(net.finish(build(net, net.inputs[0])))


def functions(mod: tvm.IRModule) -> list[Any]:
    return [f for f in mod.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]


def emitted(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[Net, Any], Any]:
    return lambda net, x: net.emit(function(x, *arguments, **options))


def elementwise(net: Net, x: Any) -> Any:
    y = net.emit(op.nn.relu(net.emit(op.add(x, x))))
    return net.emit(op.multiply(y, net.emit(op.sigmoid(x))))


def diamond(net: Net, x: Any) -> Any:
    y = net.emit(op.exp(x))
    return net.emit(op.subtract(net.emit(op.sqrt(y)), net.emit(op.tanh(y))))


def layer_norm(net: Net, x: Any) -> Any:
    features = shape_of(x)[-1]
    gain, shift = (
        net.weight("g", np.full(features, 2, np.float32)),
        net.weight("b", np.ones(features, np.float32)),
    )
    return net.emit(op.nn.layer_norm(x, gain, shift, [-1]))


def joined(net: Net, x: Any) -> Any:
    return net.emit(op.concat([x, net.emit(op.nn.relu(x))], 1))


def product_of_activations(net: Net, x: Any) -> Any:
    return net.emit(op.matmul(x, net.emit(op.permute_dims(x, [0, 2, 1]))))


def fused_product(net: Net, x: Any) -> Any:
    weight = net.weight("w", np.ones((16, 24), np.float32))
    return net.emit(op.nn.relu(net.emit(op.matmul(x, weight))))


CASES: dict[str, tuple[Callable[[Net, Any], Any], str, list[tuple[int, ...]]]] = {
    "elementwise": (
        elementwise, "float32", [(1, 3), (7, 11), (2, 64), (3, 4, 5, 8), (1, 32, 33, 16), (5, 65536)]
    ),
    "diamond": (diamond, "float32", [(9, 16), (130, 128)]),
    "transpose": (
        emitted(op.permute_dims, [0, 3, 1, 2]), "uint8", [(1, 5, 7, 3), (2, 8, 8, 16), (1, 40, 40, 32)]
    ),
    "max pool": (
        emitted(op.nn.max_pool2d, [3, 3], [2, 2], [1, 1], layout="NHWC"), "uint8",
        [(1, 9, 9, 5), (2, 8, 8, 16), (1, 33, 30, 32)],
    ),
    "average pool": (
        emitted(op.nn.avg_pool2d, [3, 2], [2, 2], [1, 1], layout="NHWC"), "float32",
        [(1, 9, 9, 5), (1, 32, 32, 24)],
    ),
    "mean": (
        emitted(op.mean, [1, 2], keepdims=True), "float32", [(1, 7, 7, 5), (2, 9, 9, 32), (1, 30, 30, 64)]
    ),
    "sum of rows": (emitted(op.sum, [1]), "float32", [(3, 7), (16, 2048), (64, 33)]),
    "sum of all": (emitted(op.sum), "float32", [(7, 9), (128, 130)]),
    "softmax": (emitted(op.nn.softmax, -1), "float32", [(1, 10), (48, 64), (40, 48, 80)]),
    "layer norm": (layer_norm, "float32", [(3, 10), (48, 384)]),
    "argmax": (emitted(op.argmax, -1), "float32", [(5, 10), (64, 512)]),
    "padding": (emitted(op.nn.pad, [0, 0, 1, 2, 2, 1, 0, 0], "constant", 7), "uint8", [(1, 5, 5, 8)]),
    "concat": (joined, "float32", [(2, 3, 5), (4, 16, 64)]),
    "take": (emitted(op.take, relax.const(np.array([2, 0, 1, 2])), 0), "float32", [(3, 5), (3, 512)]),
    "product of activations": (product_of_activations, "float32", [(2, 5, 7), (4, 48, 32)]),
    "fused product": (fused_product, "float32", [(5, 16), (64, 16)]),
}  # fmt: skip
EACH = [(name, shape) for name, (_, _, shapes) in CASES.items() for shape in shapes]


def arrays(function: Any) -> list[np.ndarray]:
    """Seeded arguments; the results' places hold what must be written over."""
    rng = np.random.default_rng(0)
    drawn = []
    for buffer in function.params:
        shape, dtype = [int(extent) for extent in buffer.shape], str(buffer.dtype)
        values = rng.uniform(0.5, 2, shape) if dtype.startswith("float") else rng.integers(0, 3, shape)
        drawn.append(values.astype(dtype))
    return drawn


def results(library: Any, name: str, arguments: list[np.ndarray]) -> list[np.ndarray]:
    tensors = [tvm.runtime.tensor(each) for each in arguments]
    library[name](*tensors)
    return [tensor.numpy() for tensor in tensors]


@pytest.fixture(scope="module")
def compiled() -> tuple[dict[tuple[str, Any], list[Any]], Any, Any]:
    """All functions of all cases, once as they are for any CPU and once scheduled for this one."""
    found: dict[tuple[str, Any], list[Any]] = {}
    plain, scheduled = {}, {}
    for name, shape in EACH:
        build, dtype, _ = CASES[name]
        found[name, shape] = functions(legalized(build, shape, dtype))
        for i, function in enumerate(found[name, shape]):
            symbol = f"f{len(found)}_{i}"
            plain[symbol] = function.with_attr("global_symbol", symbol)
            scheduled[symbol] = schedule_function(function, HOST.isa.lanes).with_attr("global_symbol", symbol)
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    return (
        found,
        tvm.tirx.build(tvm.IRModule(plain), target=target),
        tvm.tirx.build(tvm.IRModule(scheduled), target=HOST.target),
    )


@pytest.mark.parametrize(("name", "shape"), EACH, ids=[f"{name} {shape}" for name, shape in EACH])
def test_a_scheduled_function_computes_the_same(compiled: Any, name: str, shape: tuple[int, ...]) -> None:
    found, plain, scheduled = compiled
    number = list(found).index((name, shape)) + 1
    assert found[name, shape]
    for i, function in enumerate(found[name, shape]):
        arguments = arrays(function)
        expected = results(plain, f"f{number}_{i}", arguments)
        for ours, theirs in zip(results(scheduled, f"f{number}_{i}", arguments), expected, strict=True):
            if theirs.dtype.kind == "f":
                np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(ours, theirs)


def text(function: Any) -> str:
    return function.script()


def test_large_elementwise_functions_are_vectorised_and_parallel() -> None:
    (function,) = functions(legalized(elementwise, (256, 1024), "float32"))
    scheduled = text(schedule_function(function, 8))
    assert "T.vectorized(" in scheduled
    assert "T.parallel(" in scheduled
    assert scheduled.count("T.sblock(") == 2  # the root, and all in one


def test_small_functions_start_no_threads() -> None:
    (function,) = functions(legalized(elementwise, (4, 64), "float32"))
    scheduled = text(schedule_function(function, 8))
    assert "T.vectorized(" in scheduled
    assert "T.parallel(" not in scheduled


def test_reductions_are_vectorised_over_channels() -> None:
    build, dtype, _ = CASES["mean"]
    scheduled = [text(schedule_function(f, 8)) for f in functions(legalized(build, (1, 30, 30, 64), dtype))]
    assert any("T.vectorized(" in each for each in scheduled)


def test_a_module_is_scheduled_once_and_kernels_are_left_alone() -> None:
    mod = legalized(elementwise, (64, 1024), "float32")
    once = schedule_module(mod, 8)
    assert all("tirx.is_scheduled" in function.attrs for function in functions(once))
    tvm.ir.assert_structural_equal(schedule_module(once, 8), once)


def test_a_call_of_the_runtime_stays_as_it_is() -> None:
    net = Net((3, 10))
    best = net.emit(op.topk(net.inputs[0], 3, ret_type="values"))
    with HOST.target:
        mod = relax.backend.DispatchSortScan()(net.finish(best))
    mod = relax.transform.LegalizeOps()(mod)
    (function,) = functions(mod)
    assert schedule_function(function, HOST.isa.lanes).same_as(function)


def test_buffers_are_made_small_but_those_of_kernels() -> None:
    @T.prim_func(s_tir=True)
    def rows(x: T.Buffer((8, 64), "float32"), y: T.Buffer((8, 64), "float32")) -> None:
        doubled = T.sblock_alloc_buffer((8, 64), "float32")
        for i in range(8):
            for j in range(64):
                with T.sblock("double"):
                    r, c = T.axis.remap("SS", [i, j])
                    doubled[r, c] = x[r, c] * T.float32(2)
            for j in range(64):
                with T.sblock("add"):
                    r, c = T.axis.remap("SS", [i, j])
                    y[r, c] = doubled[r, c] + T.float32(1)

    mod = compact(tvm.IRModule({"rows": rows, "kernel": rows.with_attr(KERNEL, True)}))
    assert "alloc_buffer((1, 64))" in mod["rows"].script()
    assert "alloc_buffer((8, 64))" in mod["kernel"].script()
