"""Structures: inputs, outputs and what exporters leave between layers."""

import numpy as np
import onnx
from onnx import TensorProto

from tests.corpus.drawing import Drawing, Graph


def several_inputs() -> onnx.ModelProto:
    net = Drawing("several_inputs")
    image = net.head(net.conv_relu(net.input("image", 1, 3, 8, 8), 3, 8), 8)
    facts = net.op("Relu", net.dense(net.input("facts", 1, 5), 5, 6))
    return net.finish(net.dense(net.op("Concat", image, facts, axis=1), 12, 3))


def several_outputs() -> onnx.ModelProto:
    """A detector: boxes and scores of the same features, transposed and flat."""
    net = Drawing("several_outputs")
    x = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 8)
    boxes, scores = (
        net.op("Reshape", net.op("Transpose", net.conv(x, 8, 2 * n), perm=[0, 2, 3, 1]), net.ints(1, -1, n))
        for n in (4, 3)
    )
    return net.finish(boxes, net.op("Softmax", scores, axis=-1))


def tapped() -> onnx.ModelProto:
    """Tensors inside the network are outputs as well; one of them stands before its activation."""
    net = Drawing("tapped")
    before = net.conv(net.input("x", 1, 3, 8, 8), 3, 8)
    after = net.op("Relu", before)
    return net.finish(net.head(net.conv_relu(after, 8, 8), 8), before, after)


def input_is_output() -> onnx.ModelProto:
    net = Drawing("input_is_output")
    x = net.input("x", 1, 8)
    return net.finish(net.dense(x, 8, 4), net.op("Identity", x))


def slicing() -> onnx.ModelProto:
    net = Drawing("slicing")
    x = net.conv_relu(net.input("x", 1, 3, 10, 10), 3, 8)
    x = net.op("Slice", x, net.ints(1, 9), net.ints(-1, -100), net.ints(2, 3), net.ints(1, -2))
    x = net.op("Gather", x, net.ints(0, 2, 4, 7), axis=1)
    x = net.op("Pad", x, net.ints(0, 0, 1, 2, 0, 0, 1, 0), mode="reflect")
    x = net.op("Pad", net.conv_relu(x, 4, 4), net.ints(0, 0, 0, 1, 0, 0, 1, 0), net.weight(0.5))
    return net.finish(net.conv(x, 4, 4))


def spreading() -> onnx.ModelProto:
    net = Drawing("spreading")
    x = net.op("Relu", net.dense(net.input("x", 1, 4), 4, 6))
    tiled = net.op("Tile", net.op("Unsqueeze", x, net.ints(1)), net.ints(1, 3, 2))
    wide = net.op("Expand", net.op("Reshape", x, net.ints(1, 1, 6)), net.ints(1, 3, 6))
    return net.finish(net.dense(net.op("Concat", tiled, wide, axis=-1), 18, 4))


def constant_branch() -> onnx.ModelProto:
    """A branch computed of constants alone."""
    net = Drawing("constant_branch")
    c = net.op("Constant", value=onnx.numpy_helper.from_array(np.linspace(-1, 1, 8).astype(np.float32)))
    scale = net.op("Exp", net.op("Mul", c, net.weight(0.3)))
    grid = net.op("Cast", net.op("Range", *(net.weight(np.int64(i)) for i in (0, 8, 1))), to=1)
    x = net.op("Mul", net.dense(net.input("x", 2, 8), 8, 8), scale)
    return net.finish(net.dense(net.op("Add", net.op("Relu", x), net.op("Sin", grid)), 8, 3))


def leftovers() -> onnx.ModelProto:
    """Identity, dropout, casts to what it is, double transposes, no-op pads: nothing of it is left."""
    net = Drawing("leftovers")
    x = net.op("Identity", net.conv_relu(net.op("Identity", net.input("x", 1, 3, 8, 8)), 3, 8))
    x = net.op("Cast", net.op("Dropout", x), to=TensorProto.FLOAT)
    x = net.op("Transpose", net.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    x = net.op("Pad", x, net.ints(*[0] * 8))
    x = net.op("Squeeze", net.op("Unsqueeze", x, net.ints(1)), net.ints(1))
    return net.finish(net.op("Flatten", net.head(x, 8)))


def channels_last() -> onnx.ModelProto:
    """What a converter from TensorFlow writes: transposes around every convolution."""
    net = Drawing("channels_last")
    x = net.input("x", 1, 8, 8, 3)
    for c, k in ((3, 8), (8, 8)):
        x = net.op("Transpose", x, perm=[0, 3, 1, 2])
        x = net.op("Transpose", net.conv(x, c, k, bias=False), perm=[0, 2, 3, 1])
        x = net.op("Relu", net.op("Add", x, net.normal(k)))
    x = net.op("ReduceMean", x, axes=[1, 2], keepdims=0)
    return net.finish(net.dense(x, 8, 4))


def computed_shapes() -> onnx.ModelProto:
    """Reshapes to a shape that is computed of the input's own."""
    net = Drawing("computed_shapes")
    x = net.conv_relu(net.input("x", 2, 3, 6, 6), 3, 8, strides=[2, 2])
    batch = net.op("Gather", net.op("Shape", x), net.ints(0), axis=0)
    x = net.op("Reshape", x, net.op("Concat", batch, net.ints(-1), axis=0))
    return net.finish(net.dense(x, 72, 4))


def no_layers() -> onnx.ModelProto:
    """Nothing to compress."""
    net = Drawing("no_layers")
    return net.finish(net.op("Softmax", net.op("Mul", net.input("x", 2, 6), net.weight(0.5))))


GRAPHS = (
    Graph(several_inputs, 4, 25),
    Graph(several_outputs, 3, 25),
    Graph(tapped, 3, 25),
    Graph(input_is_output, 1, 25),
    Graph(slicing, 3, 25),
    Graph(spreading, 2, 25, slow=True),
    Graph(constant_branch, 2, 25),
    Graph(leftovers, 2, 25),
    Graph(channels_last, 3, 25),
    Graph(computed_shapes, 2, 25, slow=True),
    Graph(no_layers, 0, 100),
)
