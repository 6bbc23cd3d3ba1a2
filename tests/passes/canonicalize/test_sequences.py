"""One-dimensional convolutions become layers, and between two of them nothing is left of the sequence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tersor.frontend.verification import run_plainly
from tersor.ir.graph import Graph, operator, shape_of, weights_of
from tersor.passes.canonicalize import Canonicalize
from tersor.passes.extract import extract
from tests.relax_modules import Net, he

Expr = Any
RNG = np.random.default_rng(0)
SHAPE = (2, 4, 9)


def conv(net: Net, x: Expr, name: str, c: int, k: int, window: int = 3, **attributes: Any) -> Expr:
    weight = net.weight(f"{name}.weight", he(RNG, k, c // attributes.get("groups", 1), window))
    return net.emit(relax.op.nn.conv1d(x, weight, **attributes))


def canonical(net: Net, *outputs: Expr) -> Graph:
    """Canonicalize, see that the numbers stay, and that a second time changes nothing."""
    before = net.finish(*outputs)
    after = Canonicalize()(before)
    shape = shape_of(Graph(before).inputs[0])
    inputs = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    for result, reference in zip(run_plainly(after, inputs), run_plainly(before, inputs), strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-5)
    assert Canonicalize()(after).script() == after.script()
    return Graph(after)


def operators(graph: Graph) -> list[str]:
    return [operator(value) for _, value in graph.bindings]


@given(
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    window=st.integers(1, 4),
)
@settings(max_examples=8, deadline=None)
def test_a_convolution_of_a_sequence_is_one_of_an_image(stride, dilation, groups, padding, window) -> None:
    net = Net(SHAPE)
    attributes = {"strides": stride, "dilation": dilation, "groups": groups, "padding": padding}
    graph = canonical(net, conv(net, net.inputs[0], "a", 4, 8, window, **attributes))
    assert operators(graph) == ["reshape", "nn.conv2d", "reshape"]
    (layer,) = extract(graph.mod).layers
    assert (layer.name, layer.G, layer.R, layer.S) == ("a.weight", groups, 1, window)


def test_a_bias_and_a_batch_norm_go_into_the_layer() -> None:
    net = Net(SHAPE)
    y = conv(net, net.inputs[0], "a", 4, 8, padding=1)
    y = net.emit(relax.op.add(y, net.weight("a.bias", RNG.normal(size=(1, 8, 1)).astype("f4"))))
    statistics = [net.weight(name, RNG.uniform(0.5, 1.5, 8).astype("f4")) for name in ("g", "b", "m", "v")]
    y = net.emit(relax.op.nn.batch_norm(y, *statistics, axis=1, training=False))
    graph = canonical(net, net.emit(relax.TupleGetItem(y, 0)))
    assert operators(graph) == ["reshape", "nn.conv2d", "add", "reshape"]
    assert {name: value.shape for name, value in weights_of(graph.mod).items()} == {
        "a.weight": (8, 4, 1, 3),
        "a.bias": (1, 8, 1, 1),
    }


BETWEEN: dict[str, Callable[[Net, Expr], Expr]] = {
    "relu": lambda net, y: relax.op.nn.relu(y),
    "leaky relu": lambda net, y: relax.op.nn.leakyrelu(y, 0.1),
    "clip": lambda net, y: relax.op.clip(y, -1.0, 1.0),
    "a factor for each channel": lambda net, y: relax.op.multiply(
        net.emit(relax.op.sigmoid(y)), net.weight("s", RNG.normal(size=(1, 4, 1)).astype("f4"))
    ),
    "a constant for each step": lambda net, y: relax.op.add(
        net.emit(relax.op.tanh(y)), net.weight("t", RNG.normal(size=9).astype("f4"))
    ),
    "a residual": lambda net, y: relax.op.add(y, net.inputs[0]),
    "a gate": lambda net, y: relax.op.multiply(y, net.emit(relax.op.mean(y, [2], keepdims=True))),
    "max pool": lambda net, y: relax.op.nn.max_pool1d(y, 3, 2, padding=1),
    "average pool": lambda net, y: relax.op.nn.avg_pool1d(y, 2, 2, padding=1, ceil_mode=True),
    "pad": lambda net, y: relax.op.nn.pad(y, [0, 0, 0, 0, 2, 1], "reflect"),
    "concat": lambda net, y: relax.op.concat([y, y], -1),
}


@pytest.mark.parametrize("what", list(BETWEEN))
def test_nothing_between_two_convolutions_is_a_sequence(what: str) -> None:
    net = Net(SHAPE)
    y = net.emit(BETWEEN[what](net, conv(net, net.inputs[0], "a", 4, 4, padding=1)))
    graph = canonical(net, conv(net, y, "b", 4, 4, padding=1))
    between = [var for var, _ in graph.bindings if len(shape_of(var)) != 4]
    assert between == graph.outputs


def test_what_reads_a_sequence_otherwise_still_gets_one() -> None:
    net = Net(SHAPE)
    y = net.emit(relax.op.nn.relu(conv(net, net.inputs[0], "a", 4, 4)))
    transposed = net.emit(relax.op.permute_dims(y, [0, 2, 1]))
    graph = canonical(net, conv(net, y, "b", 4, 4), transposed)
    assert [shape_of(output) for output in graph.outputs] == [(2, 4, 5), (2, 7, 4)]
