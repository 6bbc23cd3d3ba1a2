"""Calls: layers of all kinds become calls of kernels, whatever the rank and wherever the weight is from."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir import operators
from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Net, he, samples
from tests.rounded_weights import encoded_codes
from tests.targets.cpu.lowered_networks import HOST, assert_same, conv, execute, stored

op = relax.op


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


@pytest.mark.parametrize(("channels", "outputs"), [(8, 3), (16, 35), (20, 64), (64, 40)])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_decoded_weight_is_packed_at_run_time(channels: int, outputs: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (channels, outputs)).astype(np.int8)
    weight.reshape(-1, 4, outputs)[:, rng.permutation(4)[:2]] = 0
    stored = encoded_codes(weight, "int8+2:4")

    def network(encoded: bool) -> tvm.IRModule:
        net = Net((rows, channels), "uint8")
        dense = net.weight("fc", weight)
        if encoded:
            dense = net.decoded("fc", stored)
        product = net.emit(op.matmul(net.inputs[0], dense, out_dtype="int32"))
        acc = net.emit(op.add(product, net.weight("b", np.arange(outputs, dtype=np.int32))))
        scale = net.weight("m", np.ones(outputs, np.float32))
        return net.finish(net.call(operators.RescaleAccumulator(1), acc, scale))

    x = rng.integers(0, 256, (rows, channels)).astype(np.uint8)
    expected = (x.astype(np.int64) @ weight + np.arange(outputs)).astype(np.float32)
    lowered = lower(network(True), HOST.isa, 2)
    assert list(lowered.kernels) == ["fc"]
    np.testing.assert_array_equal(execute(lowered, x)[0], expected)
