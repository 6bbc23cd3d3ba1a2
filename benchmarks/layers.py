"""Single layers, as networks of one node with seeded weights: the convolutions of ResNets and their like."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.models import Net


def convolution(
    size: int, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1
) -> onnx.ModelProto:
    """[1, C, size, size] -> [1, K, ...], with bias, same padding."""
    net = Net("convolution", [1, channels[0], size, size])
    net.conv("x", "y", channels, kernel, stride=stride, groups=groups, bias=True)
    return net.finish(rank=4)


def dense(rows: int, features: tuple[int, int]) -> onnx.ModelProto:
    """[rows, C] -> [rows, K], with bias."""
    net = Net("dense", [rows, features[0]])
    net.linear("x", "fc", features, last=True)
    return net.finish()


def batched(batch: int, extents: tuple[int, int, int]) -> onnx.ModelProto:
    """[batch, M, C] times [batch, C, K], both activations, as in attention."""
    m, c, k = extents
    net = Net("batched", [batch, m, c])
    net.inputs.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [batch, c, k]))
    net.op("MatMul", "x", "other", name="y")
    return net.finish(rank=3)


# By what they are: size of the image, kernel, channels in and out.
LAYERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "stem-7x7s2-224-3-64": partial(convolution, 224, (3, 64), 7, 2),
    "stem-3x3s2-224-3-32": partial(convolution, 224, (3, 32), 3, 2),
    "3x3-56-64-64": partial(convolution, 56, (64, 64), 3),
    "3x3s2-56-64-128": partial(convolution, 56, (64, 128), 3, 2),
    "3x3-28-128-128": partial(convolution, 28, (128, 128), 3),
    "3x3-14-256-256": partial(convolution, 14, (256, 256), 3),
    "3x3s2-14-256-512": partial(convolution, 14, (256, 512), 3, 2),
    "3x3-7-512-512": partial(convolution, 7, (512, 512), 3),
    "1x1s2-56-64-128": partial(convolution, 56, (64, 128), 1, 2),
    "1x1-56-64-256": partial(convolution, 56, (64, 256), 1),
    "1x1-56-256-64": partial(convolution, 56, (256, 64), 1),
    "1x1-28-512-128": partial(convolution, 28, (512, 128), 1),
    "1x1-14-256-1024": partial(convolution, 14, (256, 1024), 1),
    "1x1-7-2048-512": partial(convolution, 7, (2048, 512), 1),
    "depthwise-3x3-112-32": partial(convolution, 112, (32, 32), 3, 1, 32),
    "depthwise-3x3s2-56-144": partial(convolution, 56, (144, 144), 3, 2, 144),
    "depthwise-3x3-14-384": partial(convolution, 14, (384, 384), 3, 1, 384),
    "depthwise-5x5-14-480": partial(convolution, 14, (480, 480), 5, 1, 480),
    "grouped-3x3-28-128-128-g4": partial(convolution, 28, (128, 128), 3, 1, 4),
    "dense-1-1024-4096": partial(dense, 1, (1024, 4096)),
    "dense-32-384-1536": partial(dense, 32, (384, 1536)),
    "dense-128-384-1536": partial(dense, 128, (384, 1536)),
    "dense-128-1536-384": partial(dense, 128, (1536, 384)),
    "batched-12-128-32-128": partial(batched, 12, (128, 32, 128)),
}


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the one node."""
    node = model.graph.node[-1]
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.output)
    shapes = {each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in values}
    shapes |= {weight.name: list(weight.dims) for weight in inferred.initializer}
    out, right = int(np.prod(shapes[node.output[0]])), shapes[node.input[1]]
    if node.op_type == "Conv":
        return out * int(np.prod(right[1:]))
    return out * (right[-1] if node.op_type == "Gemm" else right[-2])
