"""Followers: what surrounds the kernels keeps its meaning in either layout."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Net, he, run, samples
from tests.targets.cpu.lowered_networks import HOST, conv, execute, integer_form, stored

op = relax.op


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
