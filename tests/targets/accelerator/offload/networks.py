"""Tiny networks with all that an accelerator may be given, in integer form."""

from functools import cache

import numpy as np
import tvm

from tersor.ir.schemes import with_schemes
from tersor.ir.untyped import relax
from tersor.passes.extract import extract
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8
from tests.relax_modules import Array, Net, attention_net, he, samples, statistics_of, token_samples

op = relax.op


def image_net() -> tvm.IRModule:
    """[1, 8, 12, 12]: convolution, maximum, depthwise, 1x1, a sum of three, averages, a dense layer."""
    rng = np.random.default_rng(0)
    net = Net((1, 8, 12, 12))
    (x,) = net.inputs

    def bias(channels: int) -> Array:
        return rng.normal(0, 0.1, channels).astype(np.float32)

    y = net.emit(op.nn.relu(net.conv(x, "first", he(rng, 8, 8, 3, 3), bias(8), padding=[1, 1])))
    y = net.emit(op.nn.max_pool2d(y, [3, 3], [2, 2], [1, 1, 1, 1]))
    z = net.conv(y, "deep", he(rng, 8, 1, 3, 3), bias(8), padding=[1, 1], groups=8)
    z = net.conv(net.emit(op.clip(z, 0.0, 6.0)), "point", he(rng, 8, 8, 1, 1), bias(8))
    y = net.emit(op.add(z, y))
    pooled = net.emit(op.nn.avg_pool2d(y, [2, 2], [2, 2]))
    deeper = net.emit(op.nn.avg_pool2d(net.emit(op.nn.relu(y)), [2, 2], [2, 2]))
    y = net.emit(op.add(pooled, deeper))
    y = net.emit(op.reshape(net.emit(op.mean(y, [2, 3], keepdims=True)), (1, 8)))
    return net.finish(net.dense(y, "fc", he(rng, 8, 5, fan_in=8), bias(5)))


IMAGES = samples(1, 8, 12, 12, count=2)
TOKENS = token_samples(count=2)


def in_int8(mod: tvm.IRModule, data: list[Array]) -> tvm.IRModule:
    """Give a network with all of its layers, products of activations too, in int8."""
    schemes = {layer.name: INT8 for layer in extract(mod).layers if layer.operator != "gather"}
    return with_schemes(integerize(quantize(mod, schemes, statistics_of(mod, data))), schemes)


@cache
def integer_image_net() -> tvm.IRModule:
    """Give `image_net` in int8."""
    return in_int8(image_net(), IMAGES)


@cache
def integer_attention_net() -> tvm.IRModule:
    """Give an attention block in int8."""
    return in_int8(attention_net(softmax=False), TOKENS)
