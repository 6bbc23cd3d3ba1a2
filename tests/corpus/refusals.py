"""Refusals: graphs that no compilation can serve, each named in one sentence."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.corpus.drawing import Drawing, Refusal


def unknown_operator() -> onnx.ModelProto:
    net = Drawing("unknown_operator")
    return net.finish(net.op("Det", net.input("x", 3, 3)))


def other_domain() -> onnx.ModelProto:
    net = Drawing("other_domain")
    net.op("Relu", net.input("x", 1, 8))
    net.nodes.append(helper.make_node("Sparkle", ["relu0"], ["y"], name="custom", domain="com.example"))
    model = net.finish("y")
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def control_flow() -> onnx.ModelProto:
    net = Drawing("control_flow")
    net.input("x", 1, 8)
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["x"], [f"{kind}.y"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}.y", TensorProto.FLOAT, [1, 8])],
        )
        for kind in ("Relu", "Neg")
    ]
    condition = net.weight(np.array(True))
    y = net.op("If", condition, then_branch=branches[0], else_branch=branches[1])
    return net.finish(y)


def strings() -> onnx.ModelProto:
    net = Drawing("strings")
    words = net.input("words", 1, 4, dtype=TensorProto.STRING)
    return net.finish(net.op("Identity", words), dtypes=[TensorProto.STRING])


def dynamic_rank() -> onnx.ModelProto:
    """The number of rows depends on the data."""
    net = Drawing("dynamic_rank")
    rows = net.op("NonZero", net.input("x", 2, 8))
    return net.finish(rows, dtypes=[TensorProto.INT64])


def mismatched_shapes() -> onnx.ModelProto:
    net = Drawing("mismatched_shapes")
    return net.finish(net.op("MatMul", net.input("x", 2, 8), net.normal(9, 4)))


REFUSALS = (
    Refusal(unknown_operator, "'det0'"),
    Refusal(other_domain, "'custom'"),
    Refusal(control_flow, "'if0'"),
    Refusal(strings, "'words'"),
    Refusal(dynamic_rank, "nonzero"),
    Refusal(mismatched_shapes, "matmul0"),
)
