from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir.chains import Chain, activation_limits, find_chains
from tersor.ir.graph import Graph
from tests.relax_modules import Net

op = relax.op
IMAGE = (1, 4, 4, 4)
WEIGHT = np.ones((4, 4, 1, 1), np.float32)
BIAS = np.arange(4, dtype=np.float32)


def chains(build: Callable[[Net, Any], Any], shape: tuple[int, ...] = IMAGE) -> list[Chain]:
    """The chains of the network that `build(net, input)` describes."""
    net = Net(shape)
    output = build(net, net.inputs[0])
    return find_chains(Graph(net.finish(*output if isinstance(output, tuple) else (output,))))


def chain(build: Callable[[Net, Any], Any], shape: tuple[int, ...] = IMAGE) -> Chain:
    (found,) = chains(build, shape)
    return found


def test_a_layer_alone_is_a_chain() -> None:
    found = chain(lambda net, x: net.conv(x, "conv", WEIGHT))
    assert (found.layer, found.operator) == ("conv.weight", "nn.conv2d")
    assert (found.bias, found.residual, found.limits) == (None, None, (None, None))
    assert found.interior == ()
    assert found.data.name == "x"


def test_bias_and_activation_belong_to_the_layer() -> None:
    found = chain(lambda net, x: net.emit(op.nn.relu(net.conv(x, "conv", WEIGHT, BIAS))))
    np.testing.assert_array_equal(found.bias, BIAS)
    assert found.bias_name == "conv.bias"
    assert found.limits == (0.0, None)
    assert len(found.variables) == 3
    assert found.result.same_as(found.variables[2])
    assert found.interior == found.variables[:2]


def test_a_dense_layer_has_a_bias_on_its_last_axis() -> None:
    found = chain(
        lambda net, x: net.dense(x, "fc", np.ones((4, 5), np.float32), np.ones(5, np.float32)), (2, 4)
    )
    assert found.operator == "matmul"
    assert found.bias is not None
    assert found.bias.shape == (5,)


def test_a_bias_may_be_the_first_operand_or_a_constant() -> None:
    shaped = BIAS.reshape(1, 4, 1, 1)
    first = chain(lambda net, x: net.emit(op.add(net.weight("b", shaped), net.conv(x, "conv", WEIGHT))))
    np.testing.assert_array_equal(first.bias, BIAS)
    constant = chain(lambda net, x: net.emit(op.add(net.conv(x, "conv", WEIGHT), relax.const(shaped))))
    np.testing.assert_array_equal(constant.bias, BIAS)
    assert constant.bias_name == ""


@pytest.mark.parametrize(
    "shape", [(4,), (1, 4), (1, 1, 4, 1), (1, 1, 1, 4), (1, 1, 4, 4), (1, 1, 1, 1), (2, 4, 1, 1)]
)
def test_an_addition_that_is_not_per_channel_is_no_bias(shape: tuple[int, ...]) -> None:
    """The network's width and height equal its channels, so only the place of the axis tells."""
    other = np.resize(BIAS, shape).astype(np.float32)
    found = chain(lambda net, x: net.emit(op.add(net.conv(x, "conv", WEIGHT), net.weight("other", other))))
    assert found.bias is None
    assert len(found.variables) == 1


@pytest.mark.parametrize("shape", [(4, 1), (2, 4, 1), (4, 4), (1,)])
def test_an_addition_to_rows_of_a_product_is_no_bias(shape: tuple[int, ...]) -> None:
    weight = np.ones((4, 4), np.float32)
    other = np.ones(shape, np.float32)
    found = chain(
        lambda net, x: net.emit(op.add(net.dense(x, "fc", weight), net.weight("other", other))), (2, 4, 4)
    )
    assert found.bias is None


@pytest.mark.parametrize(("shape", "rank"), [((4, 1, 1), 4), ((1, 4, 1, 1), 4), ((1, 4), 2), ((4,), 2)])
def test_a_bias_may_have_leading_ones(shape: tuple[int, ...], rank: int) -> None:
    other = BIAS.reshape(shape)

    def build(net: Net, x: Any) -> Any:
        layer = net.conv(x, "l", WEIGHT) if rank == 4 else net.dense(x, "l", WEIGHT[..., 0, 0])
        return net.emit(op.add(layer, net.weight("other", other)))

    found = chain(build, IMAGE if rank == 4 else (4, 4))
    np.testing.assert_array_equal(found.bias, BIAS)


def test_a_residual_is_a_computed_tensor_of_the_same_shape() -> None:
    def build(net: Net, x: Any) -> Any:
        return net.emit(op.nn.relu(net.emit(op.add(net.conv(x, "conv", WEIGHT, BIAS), x))))

    found = chain(build)
    assert found.residual.name == "x"
    assert found.limits == (0.0, None)
    assert len(found.variables) == 4


def test_the_residual_may_be_the_first_operand() -> None:
    assert chain(lambda net, x: net.emit(op.add(x, net.conv(x, "conv", WEIGHT)))).residual.name == "x"


def test_a_broadcast_operand_is_no_residual() -> None:
    def build(net: Net, x: Any) -> Any:
        pooled = net.emit(op.mean(x, [2, 3], keepdims=True))
        return net.emit(op.add(net.conv(x, "conv", WEIGHT, BIAS), pooled))

    found = chain(build)
    assert found.residual is None
    assert len(found.variables) == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_the_later_of_two_layers_owns_their_sum(swapped: bool) -> None:
    def build(net: Net, x: Any) -> Any:
        a, b = net.conv(x, "a", WEIGHT, BIAS), net.conv(x, "b", 2 * WEIGHT, BIAS)
        return net.emit(op.nn.relu(net.emit(op.add(b, a) if swapped else op.add(a, b))))

    a, b = chains(build)
    assert (a.residual, a.limits, len(a.variables)) == (None, (None, None), 2)
    assert b.residual.same_as(a.result)
    assert b.limits == (0.0, None)


def test_a_residual_made_after_the_layer_leaves_it_alone() -> None:
    def build(net: Net, x: Any) -> Any:
        y = net.conv(x, "conv", WEIGHT)
        return net.emit(op.add(y, net.emit(op.sigmoid(x))))

    assert chain(build).residual is None


def test_a_tensor_that_others_read_ends_the_chain() -> None:
    def build(net: Net, x: Any) -> Any:
        y = net.conv(x, "conv", WEIGHT, BIAS)
        return net.emit(op.multiply(net.emit(op.nn.relu(y)), y))

    found = chain(build)
    assert found.limits == (None, None)
    assert len(found.variables) == 2


def test_a_tensor_that_is_returned_ends_the_chain() -> None:
    def build(net: Net, x: Any) -> Any:
        y = net.conv(x, "conv", WEIGHT)
        return y, net.emit(op.nn.relu(y))

    assert len(chain(build).variables) == 1


def test_a_layer_added_to_itself_has_no_residual() -> None:
    def build(net: Net, x: Any) -> Any:
        y = net.conv(x, "conv", WEIGHT)
        return net.emit(op.add(y, y))

    assert chain(build).residual is None


def test_a_weight_used_twice_is_two_chains_of_one_layer() -> None:
    def build(net: Net, x: Any) -> Any:
        return net.conv(net.conv(x, "conv", WEIGHT, BIAS), "conv", WEIGHT, BIAS)

    first, second = chains(build)
    assert first.layer == second.layer == "conv.weight"
    assert second.data.same_as(first.result)


def test_products_of_computed_tensors_are_no_layers() -> None:
    def build(net: Net, x: Any) -> Any:
        return net.emit(op.matmul(x, x))

    assert chains(build, (4, 4)) == []


def test_products_with_a_batch_of_weights_are_no_layers() -> None:
    """A layer's weight is [C, K]; one matrix per batch entry has no single scale per output channel."""
    assert chains(lambda net, x: net.dense(x, "w", np.ones((2, 4, 4), np.float32)), (2, 4, 4)) == []


def test_a_weight_on_the_left_is_no_layer() -> None:
    def build(net: Net, x: Any) -> Any:
        return net.emit(op.matmul(net.weight("w", np.ones((4, 4), np.float32)), x))

    assert chains(build, (4, 4)) == []


@pytest.mark.parametrize(
    ("expression", "limits"),
    [
        (op.nn.relu, (0.0, None)),
        (op.nn.relu6, (0.0, 6.0)),
        (lambda x: op.clip(x, -1, 1.5), (-1.0, 1.5)),
        (op.sigmoid, None),
        (op.nn.leakyrelu, None),
    ],
)
def test_limits_of_activations(expression: Any, limits: Any) -> None:
    assert activation_limits(expression(Net((2, 2)).inputs[0])) == limits


def test_an_input_returned_as_it_is_has_no_chains() -> None:
    net = Net((2, 2))
    mod: tvm.IRModule = net.finish(net.inputs[0])
    assert find_chains(Graph(mod)) == []
