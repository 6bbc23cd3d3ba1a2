"""What multiplies or holds a weight and is no layer is listed, once, in order, with a reason."""

import numpy as np
import pytest
from tvm import relax

from tersor.fallback import Fallback
from tersor.passes.fallbacks import find_fallbacks
from tests.relax_modules import Net, he, residual_net

RNG = np.random.default_rng(0)


def test_a_network_of_layers_has_none() -> None:
    assert find_fallbacks(residual_net()) == ()


def test_a_transposed_convolution_goes_by_its_weight() -> None:
    net = Net((1, 4, 6, 6))
    x = net.conv(net.inputs[0], "first", he(RNG, 8, 4, 3, 3))
    up = net.emit(relax.op.nn.conv2d_transpose(x, net.weight("up.weight", he(RNG, 8, 4, 2, 2))))
    (found,) = find_fallbacks(net.finish(net.conv(up, "last", he(RNG, 4, 4, 3, 3))))
    assert (found.operator, found.name) == ("nn.conv2d_transpose", "up.weight")
    assert "transposed" in found.reason


def test_a_convolution_with_a_computed_weight_goes_by_its_result() -> None:
    net = Net((1, 4, 6, 6))
    filters = net.emit(relax.op.sigmoid(net.inputs[0]))
    (found,) = find_fallbacks(net.finish(net.emit(relax.op.nn.conv2d(net.inputs[0], filters))))
    assert (found.operator, found.name) == ("nn.conv2d", "nn.conv2d.1")


def test_a_matrix_that_is_added_is_listed_and_a_vector_is_not() -> None:
    net = Net((2, 4, 8))
    x = net.dense(net.inputs[0], "fc", he(RNG, 8, 8))
    x = net.emit(relax.op.multiply(x, net.weight("gain", he(RNG, 1, 1, 8))))
    x = net.emit(relax.op.add(x, net.weight("positions", he(RNG, 1, 4, 8))))
    assert [(found.operator, found.name) for found in find_fallbacks(net.finish(x))] == [("add", "positions")]


def test_a_fallback_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Fallback("nn.conv3d", "w", "")
