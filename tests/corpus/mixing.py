"""Mixing: how branches part and meet in image networks."""

import onnx

from tests.corpus.drawing import Drawing, Graph


def inception() -> onnx.ModelProto:
    net = Drawing("inception")
    x = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 8)
    pooled = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    parts = [net.conv_relu(x, 8, 6, 1), net.conv_relu(x, 8, 8, 3), net.conv_relu(pooled, 8, 4, 1)]
    return net.finish(net.head(net.op("Concat", *parts, axis=1), 18))


def split_branches() -> onnx.ModelProto:
    """CSP: half of the channels goes around the convolutions."""
    net = Drawing("split_branches")
    x = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 16)
    kept, used = net.ops("Split", 2, x, net.ints(6, 10), axis=1)
    used = net.conv_relu(used, 10, 10)
    return net.finish(net.conv(net.op("Concat", kept, used, axis=1), 16, 4, 1))


def channel_shuffle() -> onnx.ModelProto:
    net = Drawing("channel_shuffle")
    x = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 16)
    left, right = net.ops("Split", 2, x, axis=1)
    right = net.conv(net.conv_relu(right, 8, 8, 1), 8, 8, group=8)
    x = net.op("Concat", left, net.conv_relu(right, 8, 8, 1), axis=1)
    x = net.op("Reshape", x, net.ints(1, 2, 8, 8, 8))
    x = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3, 4]), net.ints(1, -1, 8, 8))
    return net.finish(net.head(net.conv_relu(x, 16, 16, 1), 16))


def residual() -> onnx.ModelProto:
    net = Drawing("residual")
    x = net.conv_relu(net.input("x", 1, 3, 10, 10), 3, 8)
    y = net.conv(net.conv_relu(x, 8, 8), 8, 8, bias=False)
    x = net.op("Relu", net.op("Add", x, net.batch_norm(y, 8)))
    y = net.conv(net.conv_relu(x, 8, 12, strides=[2, 2]), 12, 12)
    x = net.op("Relu", net.op("Add", y, net.conv(x, 8, 12, 1, strides=[2, 2])))
    return net.finish(net.head(x, 12))


def pre_activation() -> onnx.ModelProto:
    """ResNet v2: batch norm and ReLU come before a convolution, and the sum stays bare."""
    net = Drawing("pre_activation")
    x = net.conv(net.input("x", 1, 3, 8, 8), 3, 8)
    for _ in range(2):
        y = net.op("Relu", net.batch_norm(x, 8))
        y = net.conv(net.conv_relu(y, 8, 8), 8, 8)
        x = net.op("Add", x, y)
    return net.finish(net.head(net.op("Relu", net.batch_norm(x, 8)), 8))


def inverted_residual() -> onnx.ModelProto:
    net = Drawing("inverted_residual")
    low, high = net.weight(0.0), net.weight(6.0)
    x = net.op("Clip", net.conv(net.input("x", 1, 3, 12, 12), 3, 8, strides=[2, 2]), low, high)
    y = net.op("Clip", net.conv(x, 8, 24, 1), low, high)
    y = net.op("Clip", net.conv(y, 24, 24, group=24), low, high)
    x = net.op("Add", x, net.conv(y, 24, 8, 1))
    return net.finish(net.head(x, 8))


def densenet() -> onnx.ModelProto:
    net = Drawing("densenet")
    x, c = net.conv(net.input("x", 1, 3, 8, 8), 3, 8), 8
    for _ in range(2):
        y = net.conv(net.op("Relu", net.batch_norm(x, c)), c, 4)
        x, c = net.op("Concat", x, y, axis=1), c + 4
    x = net.conv(net.op("Relu", net.batch_norm(x, c)), c, 10, 1)
    return net.finish(net.head(net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), 10))


def unet() -> onnx.ModelProto:
    net = Drawing("unet")
    top = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 8)
    bottom = net.conv_relu(net.op("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2]), 8, 12)
    up = net.op("Resize", bottom, "", net.weight([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    x = net.conv_relu(net.op("Concat", up, top, axis=1), 20, 8)
    return net.finish(net.op("Sigmoid", net.conv(x, 8, 1, 1)))


def resize_linear() -> onnx.ModelProto:
    net = Drawing("resize_linear")
    x = net.conv_relu(net.input("x", 1, 3, 6, 6), 3, 8)
    x = net.op("Resize", x, "", net.weight([1.0, 1.0, 2.0, 2.0]), mode="linear")
    x = net.conv_relu(x, 8, 8)
    x = net.op(
        "Resize",
        x,
        "",
        "",
        net.ints(1, 8, 18, 15),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    return net.finish(net.conv(x, 8, 2, 1))


def squeeze_excite() -> onnx.ModelProto:
    net = Drawing("squeeze_excite")
    x = net.op("HardSwish", net.conv(net.input("x", 1, 3, 8, 8), 3, 16))
    gate = net.conv_relu(net.op("GlobalAveragePool", x), 16, 4, 1)
    gate = net.op("HardSigmoid", net.conv(gate, 4, 16, 1), alpha=1 / 6, beta=0.5)
    x = net.conv(net.op("Mul", x, gate), 16, 16, 1)
    return net.finish(net.head(net.op("HardSwish", x), 16))


def space_to_depth() -> onnx.ModelProto:
    net = Drawing("space_to_depth")
    x = net.op("SpaceToDepth", net.input("x", 1, 3, 8, 8), blocksize=2)
    x = net.conv_relu(x, 12, 16)
    return net.finish(net.op("DepthToSpace", net.conv(x, 16, 8, 1), blocksize=2, mode="CRD"))


def pools() -> onnx.ModelProto:
    net = Drawing("pools")
    x = net.conv_relu(net.input("x", 1, 3, 13, 13), 3, 8)
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    x = net.conv_relu(x, 8, 8)
    x = net.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=0)
    x = net.conv_relu(x, 8, 8)
    x = net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    x = net.conv_relu(x, 8, 8)
    return net.finish(net.op("Flatten", net.op("GlobalMaxPool", x)))


GRAPHS = (
    Graph(inception, 5, 25, slow=True),
    Graph(split_branches, 3, 25, slow=True),
    Graph(channel_shuffle, 6, 25),
    Graph(residual, 7, 25),
    Graph(pre_activation, 6, 25, slow=True),
    Graph(inverted_residual, 5, 25),
    Graph(densenet, 5, 25, slow=True),
    Graph(unet, 4, 25),
    Graph(resize_linear, 3, 25),
    Graph(squeeze_excite, 5, 25),
    Graph(space_to_depth, 2, 25),
    Graph(pools, 4, 25),
)
