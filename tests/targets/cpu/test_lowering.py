from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir import operators
from tersor.ir.graph import Graph, operator, weights_of
from tersor.lowering import build
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8, W8A32
from tersor.sparsity import NM
from tersor.storage import encode_nm, index_bits
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import ISAS, PLAIN, Isa
from tersor.targets.cpu.lowering import Lowered, lower
from tersor.targets.cpu.partition import partition
from tests.relax_modules import (
    Net,
    attention_net,
    compiled,
    he,
    residual_net,
    run,
    samples,
    schemes_for,
    statistics_of,
    token_samples,
)

op = relax.op
HOST = detect(cores=2)


def execute(lowered: Lowered, *inputs: np.ndarray) -> list[np.ndarray]:
    machine = relax.VirtualMachine(build(lowered, HOST), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(each) for each in inputs))
    return [each.numpy() for each in ([result] if isinstance(result, tvm.runtime.Tensor) else result)]


def integer_form(mod: tvm.IRModule, x: list[np.ndarray]) -> tvm.IRModule:
    return integerize(quantize(mod, schemes_for(mod, INT8), statistics_of(mod, x)))


# A whole network


@pytest.fixture(scope="module")
def integer() -> tvm.IRModule:
    return integer_form(residual_net(), samples(1, 8, 10, 10))


@pytest.mark.parametrize("isa", [HOST.isa, PLAIN], ids=lambda isa: isa.name)
def test_a_lowered_integer_network_gives_the_same_bytes(integer: tvm.IRModule, isa: Isa) -> None:
    x, *_ = samples(1, 8, 10, 10)
    lowered = lower(integer, isa, 2)
    (ours,), (plain,) = execute(lowered, x), compiled(integer)(x)
    assert ours.tobytes() == plain.tobytes()
    assert list(lowered.kernels) == [
        "a.weight",
        "b.weight",
        "c.weight",
        "d.weight",
        "down.weight",
        "fc.weight",
    ]
    assert all(isa.vector_unit.name in name and "int8" in name for name in lowered.kernels.values())


def test_a_lowered_float_network_gives_the_same_numbers() -> None:
    mod = residual_net()
    x, *_ = samples(1, 8, 10, 10)
    lowered = lower(mod, HOST.isa, 2)
    (ours,), (plain,) = execute(lowered, x), run(mod, x)
    assert np.abs(ours - plain).max() <= 1e-4 * np.abs(plain).max()
    assert len(lowered.kernels) == len(partition(Graph(mod))) == 6


def test_no_convolution_or_product_is_left_and_images_change_layout_only_at_the_edges(
    integer: tvm.IRModule,
) -> None:
    kinds = [operator(value) for _, value in Graph(lower(integer, HOST.isa, 2).mod).bindings]
    assert not {"nn.conv2d", "matmul", "nn.pad"} & set(kinds)
    assert kinds.count("permute_dims") <= 1


def float_tensors(mod: tvm.IRModule) -> list[str]:
    """The float tensors that a network makes, in order."""
    return [var.name for var, _ in Graph(mod).bindings if str(var.ty.dtype).startswith("float")]


def test_of_the_tensors_that_compiled_kernels_exchange_only_the_edges_are_float(
    integer: tvm.IRModule,
) -> None:
    mod = lower(integer, HOST.isa, 2).mod
    made = [var.name for var, _ in Graph(mod).bindings]
    # The image brought to its layout, before it is quantized, and the result.
    edges = {made[0], made[-1]}
    assert set(float_tensors(mod)) <= edges
    assert float_tensors(mod)[-1] == made[-1]
    assert len(float_tensors(lower(residual_net(), HOST.isa, 2).mod)) > len(edges)  # the scan does find them


def test_weights_keep_their_layers_names(integer: tvm.IRModule) -> None:
    weights = weights_of(lower(integer, HOST.isa, 2).mod)
    assert {f"{name}.weight" for name in ("a", "b", "c", "d", "down", "fc")} <= set(weights)
    assert weights["a.weight"].dtype == np.int8
    assert weights["a.weight"].ndim == 1


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_every_instruction_set_lowers_every_layer(integer: tvm.IRModule, isa: Isa) -> None:
    assert len(lower(integer, isa, 4).kernels) == 6


def test_lowering_is_deterministic(integer: tvm.IRModule) -> None:
    first, second = (lower(integer, HOST.isa, 2).mod for _ in range(2))
    tvm.ir.assert_structural_equal(first, second)
    assert first.script() == second.script()


# What surrounds the kernels keeps its meaning in either layout


def conv(net: Net, x: Any, name: str, c: int = 4, k: int = 4, **attributes: Any) -> Any:
    rng = np.random.default_rng(len(name) % 3)
    bias = rng.normal(0, 0.1, k).astype(np.float32)
    return net.conv(x, name, he(rng, k, c, 3, 3), bias, padding=[1, 1], **attributes)


def stored(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def halves(net: Net, x: Any) -> Any:
    parts = net.emit(op.split(x, 2, axis=1))
    swapped = [net.emit(relax.TupleGetItem(parts, i)) for i in (1, 0)]
    return net.emit(op.concat(swapped, 1))


def squeezed_and_excited(net: Net, y: Any) -> Any:
    pooled = net.emit(op.mean(y, [2, 3], keepdims=True))
    gate = net.emit(op.sigmoid(net.conv(pooled, "gate", he(np.random.default_rng(0), 4, 4, 1, 1))))
    return net.emit(op.multiply(y, gate))


# Extents equal the channels wherever they can, so that an operand in the wrong layout still fits.
BETWEEN: dict[str, Callable[[Net, Any], Any]] = {
    "nothing": lambda net, y: y,
    "sigmoid": lambda net, y: net.emit(op.sigmoid(y)),
    "leaky": lambda net, y: net.emit(op.nn.leakyrelu(y, 0.1)),
    "gate": squeezed_and_excited,
    "split": halves,
    "scalar constant": lambda net, y: net.emit(op.multiply(y, relax.const(np.float32(3)))),
    "scalar weight": lambda net, y: net.emit(op.multiply(y, net.weight("s", stored(1)))),
    "weight per channel": lambda net, y: net.emit(op.multiply(y, net.weight("s", stored(1, 4, 1, 1)))),
    "constant per channel": lambda net, y: net.emit(op.multiply(y, relax.const(stored(4, 1, 1)))),
    "constant per column": lambda net, y: net.emit(op.multiply(y, relax.const(stored(4)))),
    "stored image": lambda net, y: net.emit(op.add(net.emit(op.exp(y)), net.weight("p", stored(1, 4, 4, 4)))),
    "constant image": lambda net, y: net.emit(op.subtract(y, relax.const(stored(1, 4, 4, 4)))),
    "softmax of channels": lambda net, y: net.emit(op.nn.softmax(y, 1)),
    "slice": lambda net, y: net.emit(op.strided_slice(y, [2], [1], [4])),
    "max pool": lambda net, y: net.emit(op.nn.max_pool2d(y, [3, 3], [2, 2], [1, 1], ceil_mode=True)),
    "average pool": lambda net, y: net.emit(
        op.nn.avg_pool2d(y, [3, 3], [2, 2], [1, 1], count_include_pad=True)
    ),
    "transposed": lambda net, y: net.emit(op.permute_dims(y, [0, 1, 3, 2])),
    "reshaped": lambda net, y: net.emit(op.reshape(y, (1, 4, 2, 8))),
}


def concatenated(kind: str) -> Callable[[Net, Any], Any]:
    def build(net: Net, y: Any) -> Any:
        values = stored(1, 4, 4, 4)
        other = net.weight("joined", values) if kind == "weight" else relax.const(values)
        if kind == "computed":
            other = net.emit(op.sigmoid(y))
        return net.emit(op.strided_slice(net.emit(op.concat([y, other], 1)), [1], [2], [6]))

    return build


BETWEEN |= {f"concat {kind}": concatenated(kind) for kind in ("weight", "constant", "computed")}


def with_each_between(names: Iterable[str]) -> tvm.IRModule:
    """One network with each of some operators of `BETWEEN` between two layers, and an output behind each."""
    net = Net((1, 4, 4, 4))
    befores = {name: conv(net, net.inputs[0], f"{name} before") for name in names}
    outputs = [conv(net, BETWEEN[name](net, y), f"{name} behind") for name, y in befores.items()]
    return net.finish(*outputs)


def assert_same(mod: tvm.IRModule, *x: np.ndarray) -> Lowered:
    lowered = lower(mod, HOST.isa, 2)
    for ours, plain in zip(execute(lowered, *x), run(mod, *x), strict=True):
        assert ours.shape == plain.shape
        assert np.abs(ours - plain).max() <= 1e-5 * max(np.abs(plain).max(), 1)
    return lowered


def test_float_operators_between_layers_keep_their_meaning() -> None:
    x, *_ = samples(1, 4, 4, 4)
    mod = with_each_between(BETWEEN)
    lowered = lower(mod, HOST.isa, 2)
    for name, ours, plain in zip(BETWEEN, execute(lowered, x), run(mod, x), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5 * np.abs(plain).max(), err_msg=name)
    assert len(lowered.kernels) == 2 * len(BETWEEN) + 1  # and the gate's own


def test_they_do_around_integer_layers_too() -> None:
    """A float operator may round by a bit more or less where it is fused, so a code may change."""
    x = samples(1, 4, 4, 4)
    names = ("gate", "split", "constant per column", "max pool", "reshaped", "concat weight")
    mod = integer_form(with_each_between(names), x)
    lowered = lower(mod, HOST.isa, 2)
    for name, ours, plain in zip(names, execute(lowered, x[0]), run(mod, x[0]), strict=True):
        np.testing.assert_allclose(ours, plain, atol=0.02 * np.abs(plain).max(), err_msg=name)
    assert len(lowered.kernels) == 2 * len(names) + 1


def test_dense_layers_behind_images_and_on_any_rank() -> None:
    rng = np.random.default_rng(0)
    net = Net((2, 4, 4, 4))
    y = conv(net, net.inputs[0], "before")
    flat = net.emit(op.reshape(y, (2, 64)))
    rows = net.emit(op.reshape(net.emit(op.permute_dims(y, [0, 2, 3, 1])), (2, 16, 4)))
    pooled = net.emit(op.reshape(net.emit(op.mean(y, [2, 3], keepdims=True)), (2, 4)))
    outputs = [
        net.dense(flat, "flat", he(rng, 64, 5, fan_in=64), stored(5)),
        net.dense(rows, "rows", he(rng, 4, 5, fan_in=4), stored(5)),
        net.dense(pooled, "pooled", he(rng, 4, 5, fan_in=4)),
        net.dense(y, "columns", he(rng, 4, 5, fan_in=4), stored(5)),
    ]
    x, *_ = samples(2, 4, 4, 4)
    assert len(assert_same(net.finish(*outputs), x).kernels) == 5


def test_a_weight_used_twice_is_packed_for_each_use() -> None:
    net = Net((1, 4, 6, 6))
    y = conv(net, conv(net, net.inputs[0], "w", strides=[2, 2]), "w")
    x, *_ = samples(1, 4, 6, 6)
    assert_same(net.finish(y), x)


def test_outputs_may_be_inputs_and_tensors_inside() -> None:
    net = Net((1, 4, 4, 4))
    y = conv(net, net.inputs[0], "a")
    x, *_ = samples(1, 4, 4, 4)
    assert_same(net.finish(y, net.inputs[0], conv(net, y, "b")), x)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_images_of_few_channels_are_interleaved(channels: int) -> None:
    net = Net((2, channels, 8, 8))
    mod = net.finish(conv(net, net.inputs[0], "a", channels))
    x = samples(2, channels, 8, 8)
    assert_same(mod, x[0])
    integer = integer_form(mod, x)
    np.testing.assert_array_equal(execute(lower(integer, HOST.isa, 2), x[0])[0], compiled(integer)(x[0])[0])


@pytest.mark.parametrize(("channels", "outputs"), [(8, 3), (16, 35), (20, 64), (64, 40)])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_decoded_weight_is_packed_at_run_time(channels: int, outputs: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (channels, outputs)).astype(np.int8)
    weight.reshape(-1, 4, outputs)[:, rng.permutation(4)[:2]] = 0
    values, positions = encode_nm(weight, 2, 4)

    def network(encoded: bool) -> tvm.IRModule:
        net = Net((rows, channels), "uint8")
        dense = net.weight("fc", weight)
        if encoded:
            parts = net.weight("fc.values", values), net.weight("fc.positions", positions)
            dense = net.call(operators.DecodeNM(2, 4, index_bits(NM(2, 4))), *parts)
        product = net.emit(op.matmul(net.inputs[0], dense, out_dtype="int32"))
        acc = net.emit(op.add(product, net.weight("b", np.arange(outputs, dtype=np.int32))))
        scale = net.weight("m", np.ones(outputs, np.float32))
        return net.finish(net.call(operators.RescaleAccumulator(1), acc, scale))

    x = rng.integers(0, 256, (rows, channels)).astype(np.uint8)
    expected = (x.astype(np.int64) @ weight + np.arange(outputs)).astype(np.float32)
    lowered = lower(network(True), HOST.isa, 2)
    assert list(lowered.kernels) == ["fc"]
    np.testing.assert_array_equal(execute(lowered, x)[0], expected)


# Transformers


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_lowered_integer_transformer_gives_the_same_bytes(dynamic: bool) -> None:
    mod = attention_net(softmax=False)
    x, *_ = token_samples()
    schemes = {name: replace(INT8, dynamic=dynamic) for name in schemes_for(mod, INT8)}
    schemes |= {"table": W8A32, "matmul.0": INT8, "matmul.1": INT8}
    quantized = quantize(mod, schemes, statistics_of(mod, token_samples()))
    integer = integerize(quantized, [name for name, scheme in schemes.items() if scheme.dynamic])
    lowered = lower(integer, HOST.isa, 2)
    [ours], [plain] = execute(lowered, x), compiled(integer)(x)
    if dynamic:  # the bias is added in float, which one compiler may contract and the other not
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
    else:
        assert ours.tobytes() == plain.tobytes()
    assert all("int8" in name for layer, name in lowered.kernels.items() if layer != "table")
    products = [name for layer, name in lowered.kernels.items() if layer.startswith("matmul.")]
    assert len(products) == 2
    assert all(name.startswith("product int8") for name in products)


def test_the_transposes_of_attention_are_gone() -> None:
    lowered = lower(attention_net(), HOST.isa, 2)
    used = Graph(relax.transform.DeadCodeElimination()(lowered.mod))
    assert [operator(value) for _, value in used.bindings if operator(value) == "permute_dims"] == []
