"""Transformers: attention with and without a mask, encoder blocks, embeddings."""

import numpy as np
import onnx
from onnx import TensorProto

from tests.corpus.drawing import Drawing, Graph

STEPS, WIDTH, HEADS = 6, 16, 2


def heads(net: Drawing, x: str, perm: list[int]) -> str:
    x = net.op("Reshape", net.dense(x, WIDTH, WIDTH), net.ints(1, STEPS, HEADS, WIDTH // HEADS))
    return net.op("Transpose", x, perm=perm)


def attend(net: Drawing, x: str, mask: str | None = None) -> str:
    """Self-attention with the output projection; `mask` [1, steps] of 1 and 0 is added as 0 and -10000."""
    scores = net.op("MatMul", heads(net, x, [0, 2, 1, 3]), heads(net, x, [0, 2, 3, 1]))
    scores = net.op("Div", scores, net.weight(np.sqrt(WIDTH / HEADS)))
    if mask is not None:
        far = net.op("Unsqueeze", net.op("Cast", mask, to=TensorProto.FLOAT), net.ints(1, 2))
        scores = net.op(
            "Add", scores, net.op("Mul", net.op("Sub", net.weight(1.0), far), net.weight(-10000.0))
        )
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), heads(net, x, [0, 2, 1, 3]))
    y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.ints(1, STEPS, WIDTH))
    return net.dense(y, WIDTH, WIDTH)


def normed(net: Drawing, x: str) -> str:
    return net.op("LayerNormalization", x, net.around_one(WIDTH), net.normal(WIDTH), axis=-1, epsilon=1e-5)


def normed_by_hand(net: Drawing, x: str) -> str:
    """Layer norm as exporters before opset 17 write it."""
    centred = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
    variance = net.op("ReduceMean", net.op("Pow", centred, net.weight(2.0)), axes=[-1])
    x = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.weight(1e-5))))
    return net.op("Add", net.op("Mul", x, net.around_one(WIDTH)), net.normal(WIDTH))


def gelu_by_erf(net: Drawing, x: str) -> str:
    grown = net.op("Add", net.op("Erf", net.op("Div", x, net.weight(np.sqrt(2)))), net.weight(1.0))
    return net.op("Mul", net.op("Mul", x, grown), net.weight(0.5))


def attention() -> onnx.ModelProto:
    net = Drawing("attention")
    return net.finish(attend(net, net.input("x", 1, STEPS, WIDTH)))


def masked_attention() -> onnx.ModelProto:
    net = Drawing("masked_attention")
    x, mask = net.input("x", 1, STEPS, WIDTH), net.input("mask", 1, STEPS, dtype=TensorProto.INT64)
    return net.finish(attend(net, x, mask))


def encoder_block() -> onnx.ModelProto:
    net = Drawing("encoder_block")
    x = net.input("x", 1, STEPS, WIDTH)
    x = normed(net, net.op("Add", x, attend(net, x)))
    y = net.dense(gelu_by_erf(net, net.dense(x, WIDTH, 32)), 32, WIDTH)
    return net.finish(normed(net, net.op("Add", x, y)))


def encoder_block_of_primitives() -> onnx.ModelProto:
    """Pre-norm, and GELU by tanh."""
    net = Drawing("encoder_block_of_primitives")
    x = net.input("x", 1, STEPS, WIDTH)
    x = net.op("Add", x, attend(net, normed_by_hand(net, x)))
    y = net.dense(normed_by_hand(net, x), WIDTH, 32)
    cube = net.op("Mul", net.op("Mul", y, y), net.op("Mul", y, net.weight(0.044715)))
    grown = net.op("Tanh", net.op("Mul", net.op("Add", y, cube), net.weight(np.sqrt(2 / np.pi))))
    y = net.op("Mul", net.op("Mul", y, net.weight(0.5)), net.op("Add", grown, net.weight(1.0)))
    return net.finish(net.op("Add", x, net.dense(y, 32, WIDTH)))


def gelu_operator() -> onnx.ModelProto:
    net = Drawing("gelu_operator", opset=20)
    x = net.op("Gelu", net.dense(net.input("x", 1, STEPS, WIDTH), WIDTH, 32))
    x = net.op("Gelu", net.dense(x, 32, 32), approximate="tanh")
    return net.finish(net.dense(x, 32, 4))


def embedding() -> onnx.ModelProto:
    """Mean of the embedded tokens that the mask keeps, then a classifier."""
    net = Drawing("embedding")
    tokens = net.input("tokens", 1, 8, dtype=TensorProto.INT64)
    mask = net.input("mask", 1, 8, dtype=TensorProto.INT64)
    x = net.op("Gather", net.normal(40, WIDTH, scale=1.0, name="table"), tokens, axis=0)
    x = net.op("Add", x, net.normal(1, 8, WIDTH, name="positions"))
    kept = net.op("Unsqueeze", net.op("Cast", mask, to=TensorProto.FLOAT), net.ints(-1))
    total = net.op("ReduceSum", net.op("Mul", x, kept), net.ints(1), keepdims=0)
    count = net.op("Clip", net.op("ReduceSum", kept, net.ints(1), keepdims=0), net.weight(1e-9))
    return net.finish(net.dense(net.op("Relu", net.dense(net.op("Div", total, count), 16, 16)), 16, 4))


def vision_transformer() -> onnx.ModelProto:
    """Patches by a convolution, a class token, positions, one block, a classifier of the token."""
    net = Drawing("vision_transformer")
    x = net.conv(net.input("x", 1, 3, 8, 20), 3, WIDTH, 4, pads=[0] * 4, strides=[4, 8])
    x = net.op("Reshape", x, net.ints(1, WIDTH, -1))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.op("Slice", x, net.ints(0), net.ints(STEPS - 1), net.ints(1))
    x = net.op("Concat", net.normal(1, 1, WIDTH, name="token"), x, axis=1)
    x = net.op("Add", x, net.normal(1, STEPS, WIDTH, name="positions"))
    x = net.op("Add", x, attend(net, normed(net, x)))
    return net.finish(net.dense(net.op("Gather", x, net.weight(np.array(0)), axis=1), WIDTH, 5))


GRAPHS = (
    Graph(attention, 6, 20, slow=True),
    Graph(masked_attention, 6, 20),
    Graph(encoder_block, 8, 20),
    Graph(encoder_block_of_primitives, 8, 20, slow=True),
    Graph(gelu_operator, 3, 20),
    Graph(embedding, 3, 20, ("add",), below=40),
    Graph(vision_transformer, 8, 20, ("add",), slow=True),
)
