"""Products: Gemm in its variants, batched and shared matrices, einsum."""

import numpy as np
import onnx

from tests.corpus.drawing import Drawing, Graph


def gemm_variants() -> onnx.ModelProto:
    net = Drawing("gemm_variants")
    x = net.op("Gemm", net.input("x", 8, 4), net.normal(8, 16, scale=0.3), transA=1, alpha=0.5)
    x = net.op(
        "Gemm",
        net.op("Relu", x),
        net.normal(12, 16, scale=0.3),
        net.normal(12),
        transB=1,
        alpha=2.0,
        beta=0.25,
    )
    return net.finish(net.op("Gemm", net.op("Relu", x), net.normal(12, 5, scale=0.3), net.normal(4, 1)))


def batched_constant() -> onnx.ModelProto:
    """One matrix for each entry of the batch, as grouped linear layers are exported."""
    net = Drawing("batched_constant")
    x = net.dense(net.input("x", 3, 4, 8), 8, 8)
    x = net.op("MatMul", x, net.normal(3, 8, 6, scale=0.3, name="matrices"))
    return net.finish(net.dense(x, 6, 4))


def constant_left() -> onnx.ModelProto:
    """The weight stands on the left, mixing rows."""
    net = Drawing("constant_left")
    x = net.dense(net.input("x", 1, 6, 8), 8, 8)
    x = net.op("MatMul", net.normal(4, 6, scale=0.4, name="mixer"), x)
    return net.finish(net.dense(x, 8, 4))


def vectors() -> onnx.ModelProto:
    """A product with a vector, which has one axis less."""
    net = Drawing("vectors")
    x = net.op("Relu", net.dense(net.input("x", 4, 8), 8, 16))
    return net.finish(net.op("MatMul", x, net.normal(16, scale=0.3, name="vector")))


def einsum() -> onnx.ModelProto:
    net = Drawing("einsum")
    x = net.dense(net.input("x", 2, 4, 8), 8, 8)
    x = net.op("Einsum", x, net.normal(8, 2, 4, scale=0.3, name="heads"), equation="bsd,dhe->bhse")
    return net.finish(net.op("Einsum", x, x, equation="bhse,bhte->bhst"))


def shared_weight() -> onnx.ModelProto:
    """Two inputs pass one encoder and are compared."""
    net = Drawing("shared_weight")
    left, right = net.input("left", 1, 8), net.input("right", 1, 8)
    w, b = net.normal(8, 16, scale=0.35, name="encoder.weight"), net.normal(16, name="encoder.bias")
    left, right = (net.op("Relu", net.op("Gemm", x, w, b)) for x in (left, right))
    return net.finish(net.dense(net.op("Abs", net.op("Sub", left, right)), 16, 2))


def tied_both_ways() -> onnx.ModelProto:
    """An autoencoder that decodes with the transpose of its encoder's matrix."""
    net = Drawing("tied_both_ways")
    w = net.normal(12, 5, scale=0.3, name="tied.weight")
    code = net.op("Relu", net.op("MatMul", net.input("x", 2, 12), w))
    return net.finish(net.op("MatMul", code, net.op("Transpose", w, perm=[1, 0])))


def factorized() -> onnx.ModelProto:
    """A product of an activation with one made of it, as in a factorization machine."""
    net = Drawing("factorized")
    x = net.dense(net.input("x", 4, 8), 8, 6)
    gram = net.op("MatMul", x, net.op("Transpose", x, perm=[1, 0]))
    return net.finish(net.dense(net.op("Mul", gram, net.weight(np.float32(0.5))), 4, 3))


GRAPHS = (
    Graph(gemm_variants, 3, 25),
    Graph(batched_constant, 2, 25, ("matmul",)),
    Graph(constant_left, 3, 25),
    Graph(vectors, 2, 25),
    Graph(einsum, 3, 25),
    Graph(shared_weight, 2, 25),
    Graph(tied_both_ways, 2, 25),
    Graph(factorized, 3, 25, slow=True),
)
