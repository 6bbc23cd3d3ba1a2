"""Weights that are decoded: every family of kernels computes what it computes with the dense weight."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from tersor.buckets import Bucket, Buckets, TensorSpec
from tersor.ir import operators
from tersor.ir.graph import Expr, weights_of
from tersor.ir.recurrent import Gru, Number, call_cell
from tersor.ir.weight_chains import find_chains_of_weights
from tersor.lowering import build
from tersor.runner import Runner
from tersor.targets.cpu.decode_once import DECODE, decoded_entry
from tersor.targets.cpu.decoding import evaluate, with_dense_weights
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.lowering import Lowered, lower
from tests.relax_modules import Net
from tests.rounded_weights import encoded_codes

Array = npt.NDArray[Any]
HOST = detect()
CPU: Any = tvm.cpu()
RNG = np.random.default_rng(0)
Weight = Callable[[Net, str, Array], Expr]


def stored(net: Net, name: str, weight: Array) -> Expr:
    return net.weight(name, weight)


def widened(net: Net, name: str, weight: Array) -> Expr:
    """Float weights are stored as halves, codes as a product of two small integers."""
    if weight.dtype == np.float32:
        return net.emit(op.astype(net.weight(f"{name}.values", weight.astype(np.float16)), "float32"))
    values, scale = (
        net.weight(f"{name}.values", weight // 5),
        net.weight(f"{name}.scales", np.array(5, np.int8)),
    )
    return net.emit(op.multiply(values, scale))


def floats(*shape: int) -> Array:
    """Draw floats that halves hold."""
    return RNG.normal(size=shape).astype(np.float16).astype(np.float32)


def codes(*shape: int) -> Array:
    return (5 * RNG.integers(-25, 26, shape)).astype(np.int8)


def rescaled(net: Net, product: Expr, channels: int, axis: int) -> Expr:
    shape = (1, channels, 1, 1) if axis == 1 else (channels,)
    total = net.emit(op.add(product, net.weight("b", np.arange(channels, dtype=np.int32).reshape(shape))))
    scale = net.weight("m", np.linspace(0.5, 1.5, channels, dtype=np.float32))
    return net.call(operators.RescaleAccumulator(axis), total, scale)


def float_image(weight: Weight) -> tvm.IRModule:
    """A convolution, a depthwise one, and a dense layer, of odd sizes."""
    net = Net((1, 5, 9, 9))
    x = net.emit(op.nn.conv2d(net.inputs[0], weight(net, "conv", FLOATS[0]), padding=(1, 1)))
    x = net.emit(op.nn.conv2d(x, weight(net, "depthwise", FLOATS[1]), padding=(1, 1), groups=19))
    x = net.emit(op.mean(x, [2, 3]))
    return net.finish(net.emit(op.matmul(x, weight(net, "dense", FLOATS[2]))))


def integer_image(weight: Weight) -> tvm.IRModule:
    net = Net((1, 5, 9, 9), "uint8")
    x = net.emit(op.nn.conv2d(net.inputs[0], weight(net, "conv", CODES[0]), out_dtype="int32"))
    total = net.emit(op.add(x, net.weight("conv.b", np.zeros((1, 19, 1, 1), np.int32))))
    scale = net.weight("conv.m", np.full(19, 1e-3, np.float32))
    x = net.call(operators.Requantize(3), total, scale)
    x = net.emit(op.nn.conv2d(x, weight(net, "depthwise", CODES[1]), groups=19, out_dtype="int32"))
    return net.finish(rescaled(net, x, 19, 1))


def integer_dense(weight: Weight) -> tvm.IRModule:
    net = Net((3, 35), "uint8")
    product = net.emit(op.matmul(net.inputs[0], weight(net, "dense", CODES[2]), out_dtype="int32"))
    return net.finish(rescaled(net, product, 21, 1))


def table(weight: Weight) -> tvm.IRModule:
    net = Net((4,), "int64")
    return net.finish(net.emit(op.take(weight(net, "table", FLOATS[2]), net.inputs[0], 0)))


def table_of_codes(weight: Weight) -> tvm.IRModule:
    net = Net((4,), "int64")
    scale = net.weight("scale", np.linspace(0.5, 1.5, 35, dtype=np.float32))
    return net.finish(net.call(operators.GatherRows(), weight(net, "table", CODES[2]), scale, net.inputs[0]))


def recurrent(state: Number) -> Callable[[Weight], tvm.IRModule]:
    def network(weight: Weight) -> tvm.IRModule:
        net = Net((3, 1, 48))
        cell = Gru(16, weight=state, state=state, reset_after=False)
        arguments = [net.inputs[0], weight(net, "loop", LOOPS[state])]
        if state == "int8":
            arguments.append(net.weight("multiplier", np.full(48, 1e-4, np.float32)))
        arguments.append(net.weight("state", np.zeros((1, 16), np.float32)))
        return net.finish(call_cell(net._builder, cell, arguments))

    return network


FLOATS = [floats(19, 5, 3, 3), floats(19, 1, 3, 3), floats(19, 21)]

CODES = [codes(19, 5, 3, 3), codes(19, 1, 3, 3), codes(35, 21)]
LOOPS = {"int8": codes(16, 48), "float32": floats(16, 48)}
NETWORKS = {
    "float images": float_image,
    "integer images": integer_image,
    "integer dense": integer_dense,
    "table": table,
    "table of codes": table_of_codes,
    "recurrent": recurrent("float32"),
    "recurrent int8": recurrent("int8"),
}


def drawn(mod: tvm.IRModule) -> Array:
    [spec] = inputs_of(mod).inputs
    rng = np.random.default_rng(1)
    if spec.dtype == "float32":
        return rng.normal(size=spec.shape).astype(np.float32)
    return rng.integers(0, 19, spec.shape).astype(spec.dtype)


def inputs_of(mod: tvm.IRModule, entry: str = "main") -> Bucket:
    x = mod["main"].params[0]
    spec = TensorSpec(x.name, tuple(int(each) for each in x.ty.shape), str(x.ty.dtype))
    return Bucket(entry, (spec,), ())


def run(lowered: Lowered, mod: tvm.IRModule, x: Array) -> Array:
    return Runner(build(lowered, HOST), Buckets((inputs_of(mod),)))({"x": x})[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_of_decoded_weights_compute_what_kernels_of_dense_ones_do(name: str) -> None:
    dense, decoded = NETWORKS[name](stored), NETWORKS[name](widened)
    x = drawn(dense)
    one, other = lower(dense, HOST.isa, 1), lower(decoded, HOST.isa, 1)
    assert other.kernels == {layer: f"decoded once + {kernel}" for layer, kernel in one.kernels.items()}
    np.testing.assert_array_equal(run(other, decoded, x), run(one, dense, x))
    assert {name for name in weights_of(one.mod) if name in other.decoded} == set(other.decoded)
    sizes = {name: weights_of(one.mod)[name].nbytes for name in other.decoded}
    assert {layer: weight.bytes for layer, weight in other.decoded.items()} == sizes
    assert all(weight.stored[0] == f"{layer}.values" for layer, weight in other.decoded.items())


def test_a_library_decodes_in_a_function_of_its_own() -> None:
    mod = float_image(widened)
    x = drawn(mod)
    machine: Any = relax.VirtualMachine(build(lower(mod, HOST.isa, 1), HOST), CPU)
    weights = machine[DECODE]()
    columns = -(-24 // HOST.isa.lanes) * HOST.isa.lanes  # of whole vectors
    assert [weight.shape for weight in weights] == [(5 * 9 * columns,), (9 * columns,), (19 * columns,)]
    tensor = tvm.runtime.tensor(x)
    once = machine[decoded_entry("main")](tensor, *weights).numpy()
    np.testing.assert_array_equal(once, machine["main"](tensor).numpy())


def test_networks_of_several_shapes_decode_together() -> None:
    def network(rows: int) -> tvm.IRModule:
        net = Net((rows, 19))
        return net.finish(net.emit(op.matmul(net.inputs[0], widened(net, "dense", FLOATS[2]))))

    mods = {"main_2": network(2), "main": network(7)}
    first = lower(mods["main"], HOST.isa, 1)
    lowered = {"main_2": lower(mods["main_2"], HOST.isa, 1, first.packing), "main": first}
    executable = build(lowered, HOST)
    machine: Any = relax.VirtualMachine(executable, CPU)
    assert len(machine[DECODE]()) == 1
    for entry, mod in mods.items():
        x = drawn(mod)
        result = machine[decoded_entry(entry)](tvm.runtime.tensor(x), *machine[DECODE]()).numpy()
        np.testing.assert_allclose(result, x @ FLOATS[2], rtol=1e-4, atol=1e-4)


def test_what_decodes_nothing_has_one_function() -> None:
    machine: Any = relax.VirtualMachine(build(lower(table(stored), HOST.isa, 1), HOST), CPU)
    assert not machine.module.implements_function(DECODE)


def test_a_chain_is_named_by_the_values_that_it_reads() -> None:
    weight = np.zeros((8, 3), np.int8)
    weight[::4] = 5
    net = Net((1, 8), "uint8")
    decoded = net.decoded("fc.weight", encoded_codes(weight, "int8+2:4"))
    mod = net.finish(net.emit(op.matmul(net.inputs[0], decoded, out_dtype="int32")))
    chains = find_chains_of_weights(mod)
    assert list(chains) == ["fc.weight"]
    [found] = evaluate(mod, list(chains.values()))
    np.testing.assert_array_equal(found, weight)
    dense = with_dense_weights(mod, chains)
    np.testing.assert_array_equal(weights_of(dense)["fc.weight"], weight)
    assert set(weights_of(dense)) == {"fc.weight"}
