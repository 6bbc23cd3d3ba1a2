"""Networks that came quantized: by onnxruntime, and built by hand as NNCF writes them."""

import logging
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from tersor.ir.graph import Graph, operands, operator
from tests.models import random_inputs

Array = np.ndarray


def by_onnxruntime(
    model: onnx.ModelProto, activation: str = "QUInt8", weight: str = "QInt8", per_channel: bool = True
) -> onnx.ModelProto:
    """Quantize as `quantize_static` does, calibrated on four samples of unit normals; weights symmetric."""

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.samples = iter([random_inputs(model, seed) for seed in range(4)])

        def get_next(self) -> Any:
            return next(self.samples, None)

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "result.onnx"
        quant_pre_process(deepcopy(model), prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=quantization.QuantType[activation],
            weight_type=quantization.QuantType[weight],
            extra_options={"WeightSymmetric": True},
        )
        return onnx.load(result)


class Qdq:
    """A network of quantized operators that grows one node at a time; a method gives its tensor's name."""

    def __init__(self, shape: Sequence[int], opset: int = 17, seed: int = 0) -> None:
        self.shape = list(shape)
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Array) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, *inputs: str, name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def grid(
        self, x: str, scale: Any, zero_point: Any = 0, dtype: str = "uint8", axis: int | None = None
    ) -> str:
        """Quantize and dequantize a tensor, as NNCF names it; of a constant only dequantize its codes."""
        axes = {} if axis is None else {"axis": axis}
        step = self.constant(f"scale_{x}_1", np.asarray(scale, np.float32))
        point = np.broadcast_to(np.asarray(zero_point, dtype), np.shape(scale)).copy()
        zero = self.constant(f"zero_point_{x}_1", point)
        codes = self.op("QuantizeLinear", x, step, zero, name=f"q_output_{x}_1", **axes)
        return self.op("DequantizeLinear", codes, step, zero, name=f"dq_output_{x}_1", **axes)

    def weight(
        self, name: str, shape: Sequence[int], zero_point: int = 0, dtype: str = "int8", axis: int = 0
    ) -> str:
        """Dequantize integer codes with a scale per channel."""
        low, high = (-127, 128) if dtype == "int8" else (1, 256)
        codes = self.constant(f"q_output_{name}_1", self.random.integers(low, high, shape).astype(dtype))
        fan_in = int(np.prod(shape)) // shape[axis]
        scale = self.random.uniform(0.5, 1.5, shape[axis]).astype(np.float32) / np.float32(
            60 * np.sqrt(fan_in)
        )
        step = self.constant(f"scale_{name}_1", scale)
        zero = self.constant(f"zero_point_{name}_1", np.full(shape[axis], zero_point, dtype))
        return self.op("DequantizeLinear", codes, step, zero, name=f"dq_output_{name}_1", axis=axis)

    def bias(self, name: str, channels: int) -> str:
        return self.constant(name, self.random.normal(0, 0.2, channels).astype(np.float32))

    def finish(self, output: str, rank: int = 4) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, "qdq", [x], [y], self.constants)
        opset = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        onnx.checker.check_model(model)
        return model


def nncf_style(seed: int = 0) -> onnx.ModelProto:
    """[1, 3, 12, 12]: what NNCF writes of a small network.

    Signed and unsigned activations, batch norms left behind convolutions, scales per channel before the
    depthwise layer, grids that reach through a pooling, a residual addition, a dense layer on axis -2.
    """
    net = Qdq((1, 3, 12, 12), seed=seed)
    random = net.random
    x = net.grid("x", 0.03, 0, "int8")
    conv = dict(strides=[1, 1], dilations=[1, 1])
    same = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], **conv)
    point = dict(kernel_shape=[1, 1], pads=[0, 0, 0, 0], **conv)
    net.op("Conv", x, net.weight("stem.weight", (8, 3, 3, 3)), name="stem", group=1, **same)
    norm = [
        net.constant("bn.weight", random.uniform(-1.5, 1.5, 8).astype("f4")),
        net.bias("bn.bias", 8),
        net.bias("bn.running_mean", 8),
        net.constant("bn.running_var", random.uniform(0.5, 2, 8).astype("f4")),
    ]
    net.op("BatchNormalization", "stem", *norm, name="bn")
    bounds = [net.constant("low", np.float32(0)), net.constant("high", np.float32(6))]
    net.op("Clip", "bn", *bounds, name="clip")
    y = net.grid("clip", random.uniform(0.2, 1, 8) * 6 / 255, 0, "uint8", axis=1)
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    y = net.op("Pad", y, pads, name="pad")
    inputs = [y, net.weight("depthwise.weight", (8, 1, 3, 3)), net.bias("depthwise.bias", 8)]
    net.op("Conv", *inputs, name="depthwise", group=8, **{**same, "pads": [0, 0, 0, 0]})
    net.op("Relu", "depthwise", name="relu")
    y = net.grid("relu", 0.02)
    y = net.op("MaxPool", y, name="pool", kernel_shape=[2, 2], strides=[2, 2])
    inputs = [y, net.weight("project.weight", (8, 8, 1, 1)), net.bias("project.bias", 8)]
    net.op("Conv", *inputs, name="project", group=1, **point)
    net.op("Add", net.grid("project", 0.03, 0, "int8"), y, name="add")
    net.op("Relu", "add", name="relu2")
    net.op("GlobalAveragePool", net.grid("relu2", 0.025), name="average")
    y = net.op("Flatten", net.grid("average", 0.01), name="flatten")
    weight = net.weight("fc.weight", (5, 8), axis=-2)
    net.op("Gemm", y, weight, net.bias("fc.bias", 5), name="y", transB=1)
    return net.finish("y", rank=2)


def floats_between(mod: tvm.IRModule) -> list[str]:
    """What makes float tensors that come from codes and become codes again."""
    graph = Graph(mod)
    made = {var: value for var, value in graph.bindings if str(var.ty.dtype) == "float32"}
    after: set[Any] = set()
    for var, value in graph.bindings:
        read = [each for each in operands(value) if isinstance(each, tvm.relax.Var)]
        if any(each in after or str(each.ty.dtype) in ("uint8", "int32") for each in read):
            after.add(var)
    before: set[Any] = set()
    for var, value in reversed(graph.bindings):
        if var in before or str(var.ty.dtype) in ("uint8", "int32"):
            before.update(operands(value))
    return [operator(value) or str(value.args[0]) for var, value in made.items() if var in after & before]
