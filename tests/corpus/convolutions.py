"""Convolutions: groups, strides, paddings, dilations, one and three dimensions, transposed."""

import onnx

from tests.corpus.drawing import Drawing, Graph


def grouped() -> onnx.ModelProto:
    net = Drawing("grouped")
    x = net.conv_relu(net.input("x", 1, 4, 8, 8), 4, 16)
    return net.finish(net.head(net.conv_relu(x, 16, 16, group=4), 16))


def depthwise() -> onnx.ModelProto:
    net = Drawing("depthwise")
    x = net.conv_relu(net.input("x", 1, 3, 12, 12), 3, 8, strides=[2, 2])
    x = net.op("Relu", net.batch_norm(net.conv(x, 8, 8, group=8, bias=False), 8))
    x = net.op("Relu", net.batch_norm(net.conv(x, 8, 16, 1, bias=False), 16))
    return net.finish(net.head(x, 16))


def depth_multiplier() -> onnx.ModelProto:
    net = Drawing("depth_multiplier")
    x = net.conv_relu(net.input("x", 1, 4, 8, 8), 4, 8)
    return net.finish(net.head(net.conv_relu(x, 8, 16, group=8), 16))


def dilated() -> onnx.ModelProto:
    net = Drawing("dilated")
    x = net.input("x", 1, 3, 12, 12)
    for rate, c in ((1, 3), (2, 8), (3, 8)):
        x = net.conv_relu(x, c, 8, dilations=(rate, rate))
    return net.finish(net.conv(x, 8, 2, 1))


def strided_asymmetric() -> onnx.ModelProto:
    net = Drawing("strided_asymmetric")
    x = net.conv_relu(net.input("x", 2, 3, 11, 9), 3, 8, pads=[0, 1, 2, 1], strides=[2, 3])
    x = net.conv_relu(x, 8, 8, (1, 3), pads=[0, 2, 0, 0])
    return net.finish(net.conv(x, 8, 5, (3, 1), auto_pad="SAME_LOWER", strides=[2, 1]))


def transposed() -> onnx.ModelProto:
    net = Drawing("transposed")
    x = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 8, strides=[2, 2])
    x = net.op("ConvTranspose", x, net.normal(8, 6, 4, 4), net.normal(6), pads=[1, 1, 1, 1], strides=[2, 2])
    return net.finish(net.conv(net.op("Relu", x), 6, 3))


def transposed_1d() -> onnx.ModelProto:
    net = Drawing("transposed_1d")
    x = net.conv_relu(net.input("x", 1, 4, 16), 4, 8, (3,), strides=[2])
    x = net.op("ConvTranspose", x, net.normal(8, 4, 4), pads=[1, 1], strides=[2])
    return net.finish(net.conv(x, 4, 4, (3,)))


def keyword_spotting() -> onnx.ModelProto:
    net = Drawing("keyword_spotting")
    x = net.op("Relu", net.batch_norm(net.conv(net.input("x", 1, 10, 24), 10, 16, (5,), bias=False), 16))
    y = net.conv_relu(x, 16, 16, (9,), group=16)
    x = net.op("Relu", net.op("Add", x, net.batch_norm(net.conv(y, 16, 16, (1,)), 16)))
    x = net.op("MaxPool", x, kernel_shape=[3], strides=[2], pads=[1, 1])
    return net.finish(net.op("Softmax", net.head(net.conv_relu(x, 16, 24, (3,), strides=[2]), 24)))


def temporal_dilated() -> onnx.ModelProto:
    """WaveNet's block: a causal dilated convolution, tanh times sigmoid, a residual and a skip output."""
    net = Drawing("temporal_dilated")
    x = net.conv(net.input("x", 1, 1, 32), 1, 8, (1,))
    skips = []
    for rate in (1, 2):
        y = net.conv(x, 8, 16, (2,), pads=[rate, 0], dilations=(rate,))
        a, b = net.ops("Split", 2, y, axis=1)
        y = net.op("Mul", net.op("Tanh", a), net.op("Sigmoid", b))
        skips.append(net.conv(y, 8, 8, (1,)))
        x = net.op("Add", x, net.conv(y, 8, 8, (1,)))
    return net.finish(net.conv(net.op("Relu", net.op("Add", *skips)), 8, 4, (1,)))


def volume() -> onnx.ModelProto:
    net = Drawing("volume")
    x = net.conv_relu(net.input("x", 1, 2, 4, 8, 8), 2, 8, (3, 3, 3))
    x = net.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    return net.finish(net.head(net.conv_relu(x, 8, 12, (3, 3, 3)), 12))


GRAPHS = (
    Graph(grouped, 3, 25),
    Graph(depthwise, 4, 25, slow=True),
    Graph(depth_multiplier, 3, 25, slow=True),
    Graph(dilated, 4, 25, slow=True),
    Graph(strided_asymmetric, 3, 25),
    Graph(transposed, 2, 25, ("nn.conv2d_transpose",)),
    Graph(transposed_1d, 2, 25, ("nn.conv1d_transpose",), slow=True),
    Graph(keyword_spotting, 5, 25),
    Graph(temporal_dilated, 7, 25, slow=True),
    Graph(volume, 1, 25, ("nn.conv3d", "nn.conv3d")),
)
