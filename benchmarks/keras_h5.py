"""Keras networks stored as .h5 to ONNX: image layers, dense layers, and what stands between them.

Only the weights and the JSON of the architecture are read, so it needs h5py and neither Keras nor TensorFlow.
Inside, tensors are NCHW; the input and what is flattened are as Keras has them, channels last.
"""

import json
from typing import Any, BinaryIO

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tersor.error import UserError

OPSET = 17


def read_h5(file: BinaryIO) -> onnx.ModelProto:
    """Convert a functional or sequential Keras 2 network with one input and one output, for batch 1.

    Raises UserError naming the first layer of a kind that is not known here.
    """
    with h5py.File(file, "r") as stored:
        architecture = json.loads(stored.attrs["model_config"])["config"]
        return _Network(architecture, stored["model_weights"]).model()


class _Network:
    def __init__(self, architecture: dict[str, Any], weights: Any) -> None:
        self.architecture = architecture
        self.stored = weights
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.results: dict[str, str] = {}  # layer -> tensor
        self.ranks: dict[str, int] = {}  # tensor -> rank; four is NCHW
        self.inputs: list[onnx.ValueInfoProto] = []

    def model(self) -> onnx.ModelProto:
        previous = ""
        for layer in self.architecture["layers"]:
            name, config = layer["config"]["name"], layer["config"]
            sources = [node[0] for node in layer["inbound_nodes"][0]] if layer.get("inbound_nodes") else []
            if not sources and previous:
                sources = [previous]  # a sequential network names none
            inputs = [self.results[source] for source in sources]
            self.results[name] = self.layer(layer["class_name"], name, config, inputs)
            previous = name
        output = self.results[previous]
        if self.ranks[output] == 4:
            output = self.op("Transpose", [output], f"{output}.nhwc", 4, perm=[0, 2, 3, 1])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(
            self.nodes, self.architecture.get("name", "keras"), self.inputs, [y], self.weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)

    def layer(self, kind: str, name: str, config: dict[str, Any], inputs: list[str]) -> str:
        match kind:
            case "InputLayer":
                return self.input(name, [1, *config["batch_input_shape"][1:]])
            case "Conv2D" | "DepthwiseConv2D":
                return self.activated(config, self.conv(name, config, inputs[0], kind == "DepthwiseConv2D"))
            case "Dense":
                return self.activated(config, self.dense(name, config, inputs[0]))
            case "BatchNormalization":
                return self.batch_norm(name, config, inputs[0])
            case "Activation":
                return self.activation(config["activation"], inputs[0], name)
            case "ReLU":
                limit = config.get("max_value")
                return self.activation("relu" if limit is None else f"relu{limit:g}", inputs[0], name)
            case "Add":
                return self.op("Add", inputs, name, self.ranks[inputs[0]])
            case "Dropout":
                return inputs[0]
            case "AveragePooling2D" | "MaxPooling2D":
                return self.op(
                    kind.removesuffix("ing2D"),
                    inputs,
                    name,
                    4,
                    kernel_shape=config["pool_size"],
                    strides=config["strides"],
                    auto_pad=_padding(config),
                )
            case "GlobalAveragePooling2D":
                return self.op("Flatten", [self.op("GlobalAveragePool", inputs, f"{name}.4d", 4)], name, 2)
            case "ZeroPadding2D":
                (top, bottom), (left, right) = config["padding"]
                pads = self.weight(f"{name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
                return self.op("Pad", [inputs[0], pads], name, 4)
            case "Flatten":
                return self.op("Flatten", [self.channels_last(inputs[0])], name, 2)
            case "Reshape":
                shape = self.weight(f"{name}.shape", np.array([1, *config["target_shape"]]))
                last = self.op("Reshape", [self.channels_last(inputs[0]), shape], f"{name}.nhwc", 3)
                return self.channels_first(last) if len(config["target_shape"]) == 3 else last
            case _:
                raise UserError(f"the layer {name!r} is a {kind}, which this converter does not know")

    def input(self, name: str, shape: list[int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.ranks[name] = len(shape)
        return self.channels_first(name) if len(shape) == 4 else name

    def conv(self, name: str, config: dict[str, Any], x: str, depthwise: bool) -> str:
        filters = self.array(
            name, "depthwise_kernel" if depthwise else "kernel"
        )  # [R, S, C, K or multiplier]
        height, width, channels, count = filters.shape
        if depthwise:
            weight = filters.transpose(2, 3, 0, 1).reshape(channels * count, 1, height, width)
        else:
            weight = filters.transpose(3, 2, 0, 1)
        inputs = [x, self.weight(f"{name}.weight", weight)]
        if config["use_bias"]:
            inputs.append(self.weight(f"{name}.bias", self.array(name, "bias")))
        return self.op(
            "Conv",
            inputs,
            name,
            4,
            kernel_shape=[height, width],
            strides=config["strides"],
            dilations=config["dilation_rate"],
            group=channels if depthwise else config.get("groups", 1),
            auto_pad=_padding(config),
        )

    def dense(self, name: str, config: dict[str, Any], x: str) -> str:
        y = self.op(
            "MatMul",
            [x, self.weight(f"{name}.weight", self.array(name, "kernel"))],
            f"{name}.product",
            self.ranks[x],
        )
        if not config["use_bias"]:
            return y
        bias = self.array(name, "bias")
        return self.op("Add", [y, self.weight(f"{name}.bias", bias)], name, self.ranks[x])

    def batch_norm(self, name: str, config: dict[str, Any], x: str) -> str:
        mean, variance = self.array(name, "moving_mean"), self.array(name, "moving_variance")
        gamma = self.array(name, "gamma") if config["scale"] else np.ones_like(mean)
        beta = self.array(name, "beta") if config["center"] else np.zeros_like(mean)
        parts = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        inputs = [self.weight(f"{name}.{part}", value) for part, value in parts.items()]
        return self.op(
            "BatchNormalization", [x, *inputs], name, self.ranks[x], epsilon=float(config["epsilon"])
        )

    def activated(self, config: dict[str, Any], x: str) -> str:
        return self.activation(config["activation"], x, f"{x}.{config['activation']}")

    def activation(self, kind: str, x: str, name: str) -> str:
        match kind:
            case "linear":
                return x
            case "relu" | "sigmoid" | "tanh":
                return self.op(kind.capitalize(), [x], name, self.ranks[x])
            case "softmax":
                return self.op("Softmax", [x], name, self.ranks[x], axis=1)
            case "relu6":
                bounds = [
                    self.weight(f"{name}.{end}", np.float32(limit)) for end, limit in (("min", 0), ("max", 6))
                ]
                return self.op("Clip", [x, *bounds], name, self.ranks[x])
            case _:
                raise UserError(f"the activation {kind!r} of {name!r} is not known to this converter")

    def channels_first(self, x: str) -> str:
        return self.op("Transpose", [x], f"{x}.nchw", 4, perm=[0, 3, 1, 2])

    def channels_last(self, x: str) -> str:
        if self.ranks[x] != 4:
            return x
        return self.op("Transpose", [x], f"{x}.nhwc", 4, perm=[0, 2, 3, 1])

    def op(self, kind: str, inputs: list[str], name: str, rank: int, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.ranks[name] = rank
        return name

    def weight(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def array(self, layer: str, part: str) -> np.ndarray:
        return np.asarray(self.stored[layer][layer][f"{part}:0"])


def _padding(config: dict[str, Any]) -> str:
    return "SAME_UPPER" if config["padding"] == "same" else "VALID"
