"""Whole integer networks whose large layers run on tiles, here by their description on CPUs without."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir.graph import weights_of
from tersor.lowering import build
from tersor.targets.cpu.host.detect import Host, detect
from tersor.targets.cpu.host.isa import AMX
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.lowering import Lowered, lower
from tersor.targets.cpu.mapping.tile_nest import TileNest
from tests.relax_modules import Net, compiled, he, samples
from tests.targets.cpu.kernels.test_choice import runnable
from tests.targets.cpu.test_lowering import integer_form

ISA = runnable(AMX)


def network(rows: int = 12) -> tvm.IRModule:
    """A 3x3 layer, a strided residual block, a dense layer on all pixels, one on their mean."""
    rng = np.random.default_rng(0)
    net = Net((1, 32, rows, 12))
    (x,) = net.inputs

    def conv(x: relax.Expr, name: str, c: int, k: int, window: int, stride: int = 1) -> relax.Expr:
        options = {"padding": [window // 2] * 2, "strides": [stride, stride]}
        bias = rng.normal(0, 0.1, k).astype(np.float32)
        return net.conv(x, name, he(rng, k, c, window, window), bias, **options)

    x = net.emit(relax.op.nn.relu(conv(x, "a", 32, 64, 3)))
    y = net.emit(relax.op.nn.relu(conv(x, "b", 64, 96, 3, 2)))
    y = conv(y, "c", 96, 96, 3)
    x = net.emit(relax.op.nn.relu(net.emit(relax.op.add(y, conv(x, "down", 64, 96, 1, 2)))))
    last: Any = [rows * 3, 96]
    pixels = net.emit(relax.op.reshape(net.emit(relax.op.permute_dims(x, [0, 2, 3, 1])), last))
    y = net.dense(pixels, "all", he(rng, 96, 80, fan_in=96), rng.normal(0, 0.1, 80).astype(np.float32))
    mean = net.emit(relax.op.mean(y, [0], keepdims=True))
    return net.finish(net.dense(mean, "fc", he(rng, 80, 10, fan_in=80)))


@pytest.fixture(scope="module")
def integer() -> tvm.IRModule:
    return integer_form(network(), samples(1, 32, 12, 12))


def execute(*lowered: Lowered, x: np.ndarray) -> list[bytes]:
    named = {f"main_{i}" if i else "main": each for i, each in enumerate(lowered)}
    device: Any = tvm.cpu()
    machine = relax.VirtualMachine(build(named, Host(detect().isa, 2)), device)
    inputs = [x[:, :, : each.mod["main"].params[0].ty.shape[2].value] for each in lowered]
    tensors = [tvm.runtime.tensor(np.ascontiguousarray(each)) for each in inputs]
    return [machine[name](tensor).numpy().tobytes() for name, tensor in zip(named, tensors, strict=True)]


def test_a_network_on_tiles_gives_the_same_bytes(integer: tvm.IRModule) -> None:
    x, *_ = samples(1, 32, 12, 12)
    lowered = lower(integer, ISA, 2)
    [ours], [plain] = execute(lowered, x=x), compiled(integer)(x)
    assert ours == plain.tobytes()
    families = {layer: name.split()[2] for layer, name in lowered.kernels.items()}
    assert families == {
        "a.weight": "amx",
        "b.weight": "amx",
        "c.weight": "amx",
        "down.weight": "amx",
        "all.weight": "amx",
        "fc.weight": "avx512-vnni",
    }


def test_shapes_share_the_weights_of_the_largest(integer: tvm.IRModule) -> None:
    x, *_ = samples(1, 32, 12, 12)
    small = integer_form(network(4), samples(1, 32, 4, 12))
    largest = lower(integer, ISA, 2)
    smaller = lower(small, ISA, 2, largest.packing)
    for layer in ("a.weight", "down.weight", "all.weight"):
        assert weights_of(smaller.mod)[layer].shape == weights_of(largest.mod)[layer].shape
    ours = execute(largest, smaller, x=x)
    assert ours == [compiled(integer)(x)[0].tobytes(), compiled(small)(x[:, :, :4].copy())[0].tobytes()]


def test_plans_may_map_a_layer_onto_other_tiles(integer: tvm.IRModule) -> None:
    x, *_ = samples(1, 32, 12, 12)
    other = TileNest(Geometry(1, 6, 6, 96, 96, (3, 3), padding=(1, 1, 1, 1))).mapping(Tiling(1, 3, 3, 2))
    default, mapped = lower(integer, ISA, 2), lower(integer, ISA, 2, mappings={"c.weight": [other]})
    assert default.mappings.ran["c.weight"] != mapped.mappings.ran["c.weight"] == (other,)
    assert mapped.kernels["c.weight"] == "conv2d int8 amx 1x3"
    assert execute(mapped, x=x) == execute(default, x=x)
