"""Elements: activations, normalisations, reductions and comparisons around layers."""

import numpy as np
import onnx
from onnx import TensorProto

from tests.corpus.drawing import Drawing, Graph


def activations() -> onnx.ModelProto:
    net = Drawing("activations")
    x = net.conv(net.input("x", 1, 3, 8, 8), 3, 8)
    x = net.conv(net.op("Mul", x, net.op("Sigmoid", x)), 8, 8)  # SiLU
    x = net.conv(net.op("LeakyRelu", x, alpha=0.1), 8, 8)
    x = net.conv(net.op("PRelu", x, net.around_one(8, 1, 1)), 8, 8)
    x = net.conv(net.op("Elu", x, alpha=0.7), 8, 8)
    return net.finish(net.op("Tanh", net.conv(net.op("Softplus", x), 8, 4, 1)))


def rare_activations() -> onnx.ModelProto:
    net = Drawing("rare_activations", opset=18)
    x = net.conv(net.input("x", 1, 3, 6, 6), 3, 8)
    x = net.conv(net.op("Mish", x), 8, 8)
    x = net.conv(net.op("Selu", x), 8, 8, 1)
    x = net.conv(net.op("ThresholdedRelu", x, alpha=0.2), 8, 8, 1)
    return net.finish(net.op("LogSoftmax", net.head(net.op("Softsign", x), 8)))


def hard_swish_by_hand() -> onnx.ModelProto:
    """x * relu6(x + 3) / 6, as networks trained before the operator came write it."""
    net = Drawing("hard_swish_by_hand")
    x = net.conv(net.input("x", 1, 3, 8, 8), 3, 8)
    for _ in range(2):
        gate = net.op("Clip", net.op("Add", x, net.weight(3.0)), net.weight(0.0), net.weight(6.0))
        x = net.conv(net.op("Div", net.op("Mul", x, gate), net.weight(6.0)), 8, 8)
    return net.finish(net.head(x, 8))


def instance_norm() -> onnx.ModelProto:
    net = Drawing("instance_norm")
    x = net.conv(net.input("x", 1, 3, 8, 8), 3, 8, bias=False)
    x = net.op("Relu", net.op("InstanceNormalization", x, net.around_one(8), net.normal(8)))
    return net.finish(net.conv(x, 8, 3))


def group_norm() -> onnx.ModelProto:
    """Group norm as exporters write it: an instance norm of the groups, then a factor for each channel."""
    net = Drawing("group_norm")
    x = net.conv(net.input("x", 1, 3, 8, 8), 3, 8)
    y = net.op("Reshape", x, net.ints(0, 2, -1))
    y = net.op("InstanceNormalization", y, net.weight(np.ones(2)), net.weight(np.zeros(2)))
    y = net.op("Reshape", y, net.op("Shape", x))
    y = net.op("Add", net.op("Mul", y, net.around_one(8, 1, 1)), net.normal(8, 1, 1))
    return net.finish(net.conv(net.op("Relu", y), 8, 4))


def reductions() -> onnx.ModelProto:
    net = Drawing("reductions")
    x = net.conv_relu(net.input("x", 1, 3, 8, 8), 3, 8)
    mean = net.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    peak = net.op("ReduceMax", x, axes=[2, 3], keepdims=0)
    norm = net.op("ReduceL2", x, axes=[2, 3], keepdims=0)
    total = net.op("ReduceSum", x, net.ints(2, 3), keepdims=0)
    least = net.op("ReduceMin", net.op("ReduceSumSquare", x, axes=[3], keepdims=0), axes=[2], keepdims=0)
    return net.finish(net.dense(net.op("Concat", mean, peak, norm, total, least, axis=1), 40, 5))


def where() -> onnx.ModelProto:
    net = Drawing("where")
    x = net.dense(net.input("x", 2, 8), 8, 16)
    positive = net.op("Greater", x, net.weight(0.0))
    small = net.op("And", positive, net.op("Not", net.op("LessOrEqual", x, net.weight(0.5))))
    x = net.op("Where", small, net.op("Exp", x), net.op("Max", x, net.op("Neg", x)))
    return net.finish(net.dense(net.op("Min", x, net.op("Abs", net.op("Floor", x)), x), 16, 4))


def ranking() -> onnx.ModelProto:
    """Outputs that are indices: the class and the three best."""
    net = Drawing("ranking")
    x = net.dense(net.op("Relu", net.dense(net.input("x", 3, 8), 8, 16)), 16, 10)
    best = net.op("ArgMax", x, axis=1, keepdims=0)
    values, indices = net.ops("TopK", 2, x, net.ints(3), axis=1)
    return net.finish(x, best, values, indices, dtypes=[1, 7, 1, 7])


def casts() -> onnx.ModelProto:
    """An image of bytes is cast and scaled, and the result returned in half precision too."""
    net = Drawing("casts")
    x = net.op("Cast", net.input("x", 1, 3, 8, 8, dtype=TensorProto.UINT8), to=TensorProto.FLOAT)
    x = net.op("Div", net.op("Sub", x, net.weight(127.0)), net.weight(128.0))
    y = net.head(net.conv_relu(x, 3, 8), 8)
    half = net.op("Cast", net.op("Cast", y, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
    return net.finish(y, half)


def batch_norm_alone() -> onnx.ModelProto:
    """A batch norm of the input, with no layer before it."""
    net = Drawing("batch_norm_alone")
    x = net.batch_norm(net.input("x", 1, 3, 8, 8), 3)
    return net.finish(net.head(net.conv_relu(x, 3, 8), 8))


GRAPHS = (
    Graph(activations, 6, 20),
    Graph(rare_activations, 5, 20, slow=True),
    Graph(hard_swish_by_hand, 4, 20, slow=True),
    Graph(instance_norm, 2, 20),
    Graph(group_norm, 2, 20, slow=True),
    Graph(reductions, 2, 20),
    Graph(where, 2, 20),
    Graph(ranking, 2, 20),
    Graph(casts, 2, 20, below=256),
    Graph(batch_norm_alone, 2, 20, slow=True),
)
