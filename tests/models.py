"""Tiny seeded ONNX networks, and one ResNet-18, built with onnx.helper and numpy alone.

Every function returns a checked `onnx.ModelProto` with the input `x`, the output `y` and float32 tensors.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Net:
    """A network that grows one node at a time; every method returns the name of the tensor it made."""

    def __init__(self, name: str, input_shape: Sequence[int | str], seed: int = 0) -> None:
        self.name = name
        self.random = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(input_shape))]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, name: str, *values: int) -> str:
        return self.weight(name, np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        kernel: int = 3,
        *,
        stride: int = 1,
        pad: int | Sequence[int] | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        gain: float = 2.0,
    ) -> str:
        """Convolve with He-initialised weights (variance gain / fan in), same padding unless told."""
        c, k = channels
        shape = (k, c // groups, kernel, kernel)
        fan_in = shape[1] * kernel * kernel
        w = self.random.normal(0, np.sqrt(gain / fan_in), shape).astype(np.float32)
        inputs = [x, self.weight(f"{name}.weight", w)]
        if bias:
            inputs.append(self.weight(f"{name}.bias", self.random.normal(0, 0.1, k).astype(np.float32)))
        if pad is None:
            pad = dilation * (kernel - 1) // 2
        pads = [pad] * 4 if isinstance(pad, int) else list(pad)
        return self.op(
            "Conv",
            *inputs,
            name=name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=pads,
            dilations=[dilation, dilation],
            group=groups,
        )

    def batch_norm(self, x: str, name: str, channels: int, scale: float = 1.0) -> str:
        """Normalise with statistics near those of a unit normal, so that activations keep their scale."""
        inputs = [
            self.weight(f"{name}.weight", (scale * self.random.uniform(0.8, 1.2, channels)).astype("f4")),
            self.weight(f"{name}.bias", self.random.normal(0, 0.1, channels).astype("f4")),
            self.weight(f"{name}.running_mean", self.random.normal(0, 0.1, channels).astype("f4")),
            self.weight(f"{name}.running_var", self.random.uniform(0.8, 1.2, channels).astype("f4")),
        ]
        return self.op("BatchNormalization", x, *inputs, name=name, epsilon=1e-5)

    def relu6(self, x: str, name: str) -> str:
        low = self.weight(f"{name}.min", np.array(0, np.float32))
        high = self.weight(f"{name}.max", np.array(6, np.float32))
        return self.op("Clip", x, low, high, name=name)

    def linear(self, x: str, name: str, features: tuple[int, int], *, last: bool = False) -> str:
        """Multiply with a weight stored [out, in], as torch writes it (Gemm with transB)."""
        c, k = features
        w = self.random.normal(0, np.sqrt((1 if last else 2) / c), (k, c)).astype(np.float32)
        b = self.random.normal(0, 0.1, k).astype(np.float32)
        inputs = [self.weight(f"{name}.weight", w), self.weight(f"{name}.bias", b)]
        return self.op("Gemm", x, *inputs, name="y" if last else name, transB=1)

    def finish(self, rank: int = 2) -> onnx.ModelProto:
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, self.name, self.inputs, [y], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        return model


def mlp(batch: int | str = 1, features: Sequence[int] = (64, 128, 96, 10), seed: int = 0) -> onnx.ModelProto:
    """Three dense layers with ReLU between them."""
    net = Net("mlp", [batch, features[0]], seed)
    x = "x"
    last = len(features) - 2
    for i, pair in enumerate(itertools.pairwise(features)):
        x = net.linear(x, f"fc{i}", pair, last=i == last)
        if i < last:
            x = net.op("Relu", x, name=f"relu{i}")
    return net.finish()


def conv_net(seed: int = 0) -> onnx.ModelProto:
    """[1, 3, 16, 16]: conv, batch norm and ReLU6 twice, global average pool, flatten, dense."""
    net = Net("conv_net", [1, 3, 16, 16], seed)
    x = net.relu6(net.batch_norm(net.conv("x", "conv0", (3, 16)), "bn0", 16), "clip0")
    x = net.relu6(net.batch_norm(net.conv(x, "conv1", (16, 32), stride=2), "bn1", 32), "clip1")
    x = net.op("GlobalAveragePool", x, name="pool")
    net.linear(net.op("Flatten", x, name="flatten"), "fc", (32, 10), last=True)
    return net.finish()


def residual_net(seed: int = 0) -> onnx.ModelProto:
    """[1, 8, 12, 12]: a residual block with identity shortcut, then one with a strided 1x1 shortcut."""
    net = Net("residual_net", [1, 8, 12, 12], seed)
    x = _basic_block(net, "x", "block0", (8, 8), stride=1)
    _basic_block(net, x, "block1", (8, 16), stride=2, output="y")
    return net.finish(rank=4)


def mobile_net(seed: int = 0) -> onnx.ModelProto:
    """[1, 8, 14, 14]: an inverted residual: 1x1 expansion, depthwise 3x3, 1x1 projection, all with biases."""
    net = Net("mobile_net", [1, 8, 14, 14], seed)
    x = net.relu6(net.conv("x", "expand", (8, 48), 1, bias=True), "clip0")
    x = net.relu6(net.conv(x, "depthwise", (48, 48), groups=48, bias=True), "clip1")
    x = net.conv(x, "project", (48, 8), 1, bias=True, gain=1.0)
    net.op("Add", x, "x", name="y")
    return net.finish(rank=4)


def conv_kinds(seed: int = 0) -> onnx.ModelProto:
    """[1, 8, 15, 15]: strided, dilated, grouped, asymmetrically padded and strided depthwise convolutions."""
    net = Net("conv_kinds", [1, 8, 15, 15], seed)
    x = net.op("Relu", net.conv("x", "strided", (8, 16), 5, stride=2, bias=True), name="relu0")
    x = net.op("Relu", net.conv(x, "dilated", (16, 16), dilation=2), name="relu1")
    x = net.op("Relu", net.conv(x, "grouped", (16, 24), groups=4, bias=True), name="relu2")
    x = net.op("Relu", net.conv(x, "skewed", (24, 24), pad=(0, 1, 2, 1), groups=1, bias=True), name="relu3")
    net.conv(x, "y", (24, 24), stride=2, groups=24, bias=True)
    return net.finish(rank=4)


def concat_net(seed: int = 0) -> onnx.ModelProto:
    """[1, 8, 10, 10]: a 1x1 and a 3x3 branch concatenated, then a 1x1 convolution."""
    net = Net("concat_net", [1, 8, 10, 10], seed)
    left = net.op("Relu", net.conv("x", "left", (8, 8), 1, bias=True), name="relu_left")
    right = net.op("Relu", net.conv("x", "right", (8, 16), 3, bias=True), name="relu_right")
    both = net.op("Concat", left, right, name="concat", axis=1)
    net.conv(both, "y", (24, 8), 1, bias=True, gain=1.0)
    return net.finish(rank=4)


def pool_net(seed: int = 0) -> onnx.ModelProto:
    """[1, 4, 16, 16]: max pool, average pool (padding not counted) and global average pool between convs."""
    net = Net("pool_net", [1, 4, 16, 16], seed)
    x = net.op("Relu", net.conv("x", "conv0", (4, 8), bias=True), name="relu0")
    x = net.op("MaxPool", x, name="max", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.op("Relu", net.conv(x, "conv1", (8, 8), bias=True), name="relu1")
    x = net.op("AveragePool", x, name="average", kernel_shape=[2, 2], strides=[2, 2])
    x = net.conv(x, "conv2", (8, 16), bias=True)
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="global"), name="flatten")
    net.linear(x, "fc", (16, 5), last=True)
    return net.finish()


def shape_net(batch: int | str = "batch", seed: int = 0) -> onnx.ModelProto:
    """[batch, 4, 6, 6]: what exporters leave behind: a Pad, Identity, Dropout and a computed Reshape."""
    net = Net("shape_net", [batch, 4, 6, 6], seed)
    x = net.op("Pad", "x", net.ints("pads", 0, 0, 0, 0, 0, 0, 1, 1), name="pad")
    x = net.op("Relu", net.conv(x, "conv", (4, 8), pad=0, stride=2, bias=True), name="relu")
    x = net.op("Dropout", net.op("Identity", x, name="identity"), name="dropout")
    shape = net.op("Shape", x, name="shape")
    batch_size = net.op("Gather", shape, net.weight("zero", np.array(0, np.int64)), name="batch_size")
    batch_size = net.op("Unsqueeze", batch_size, net.ints("axis", 0), name="batch_list")
    target = net.op("Concat", batch_size, net.ints("rest", -1), name="target", axis=0)
    x = net.op("Reshape", x, target, name="reshape")
    w = net.weight("fc.weight", net.random.normal(0, 0.1, (72, 10)).astype(np.float32))
    x = net.op("MatMul", x, w, name="matmul")
    b = net.weight("fc.bias", net.random.normal(0, 0.1, 10).astype(np.float32))
    net.op("Add", b, x, name="y")
    return net.finish()


def resnet18(seed: int = 0) -> onnx.ModelProto:
    """ResNet-18 (He et al. 2016) at 1x3x224x224 with 1000 classes: 11.7 M He-initialised weights.

    The last batch norm of a block has a small scale, so that activations stay near one through all blocks.
    """
    net = Net("resnet18", [1, 3, 224, 224], seed)
    x = net.batch_norm(net.conv("x", "conv1", (3, 64), 7, stride=2), "bn1", 64)
    x = net.op("Relu", x, name="relu")
    x = net.op("MaxPool", x, name="maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = 64
    for stage, k in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _basic_block(net, x, f"layer{stage}.{block}", (c, k), stride, scale=0.5)
            c = k
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="avgpool"), name="flatten")
    net.linear(x, "fc", (512, 1000), last=True)
    return net.finish()


def _basic_block(
    net: Net,
    x: str,
    name: str,
    channels: tuple[int, int],
    stride: int,
    output: str | None = None,
    scale: float = 1.0,
) -> str:
    c, k = channels
    shortcut = x
    if stride != 1 or c != k:
        shortcut = net.conv(x, f"{name}.downsample.0", (c, k), 1, stride=stride, gain=1.0)
        shortcut = net.batch_norm(shortcut, f"{name}.downsample.1", k)
    y = net.batch_norm(net.conv(x, f"{name}.conv1", (c, k), stride=stride), f"{name}.bn1", k)
    y = net.op("Relu", y, name=f"{name}.relu1")
    y = net.batch_norm(net.conv(y, f"{name}.conv2", (k, k)), f"{name}.bn2", k, scale)
    y = net.op("Add", y, shortcut, name=f"{name}.add")
    return net.op("Relu", y, name=output or f"{name}.relu2")


def masked_attention(masked: bool = True, seed: int = 0) -> onnx.ModelProto:
    """x [batch, length, 16], mask [batch, length] of 0 and 1: one attention head, then a dense layer.

    Scores of masked positions become -10000, or with `masked` False stay as they are.
    """
    net = Net("masked_attention", ["batch", "length", 16], seed)
    net.inputs.append(helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "length"]))
    query, key, value = (_projection(net, "x", name) for name in ("query", "key", "value"))
    scores = net.op("MatMul", query, net.op("Transpose", key, name="keys", perm=[0, 2, 1]), name="scores")
    seen = net.op("Cast", "mask", name="seen", to=TensorProto.FLOAT)
    seen = net.op("Unsqueeze", seen, net.ints("rows", 1), name="seen_by_all")
    hidden = net.op("Sub", net.weight("one", np.array(1, np.float32)), seen, name="hidden")
    hidden = net.op(
        "Mul", hidden, net.weight("low", np.array(-1e4 if masked else 0, np.float32)), name="penalty"
    )
    weights = net.op("Softmax", net.op("Add", scores, hidden, name="masked"), name="weights", axis=-1)
    mixed = net.op("MatMul", weights, value, name="mixed")
    net.op("Add", "x", _projection(net, mixed, "out"), name="y")
    return net.finish(rank=3)


def _projection(net: Net, x: str, name: str) -> str:
    w = net.weight(f"{name}.weight", net.random.normal(0, 0.25, (16, 16)).astype(np.float32))
    b = net.weight(f"{name}.bias", net.random.normal(0, 0.1, 16).astype(np.float32))
    return net.op("Add", net.op("MatMul", x, w, name=f"{name}.product"), b, name=name)


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit-normal float32 inputs for a model whose inputs have static shapes."""
    random = np.random.default_rng(seed)
    weights = {w.name for w in model.graph.initializer}
    return {
        value.name: random.normal(
            size=[d.dim_value or 1 for d in value.type.tensor_type.shape.dim],
        ).astype(np.float32)
        for value in model.graph.input
        if value.name not in weights
    }
