"""Tensors: edges of the network change layout, at no other place."""

import numpy as np
import pytest

from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Net, compiled, samples
from tests.targets.cpu.lowered_networks import HOST, assert_same, conv, execute, integer_form


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
