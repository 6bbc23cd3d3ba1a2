"""Drawing: an ONNX graph drawn one node at a time, and what is expected of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


@dataclass(frozen=True)
class Graph:
    """A graph that compresses: `floor` is the least SNR of its int8 outputs in dB.

    `layers` counts the weights and the products of activations, all of which are to run in integers;
    `fallbacks` are the operators that the report must name instead, in order. `below` bounds integer inputs.
    """

    build: Callable[[], onnx.ModelProto]
    layers: int
    floor: float
    fallbacks: tuple[str, ...] = ()
    below: int = 2
    slow: bool = False  # it varies another one, and the default run leaves it out

    @property
    def name(self) -> str:
        return self.build.__name__


@dataclass(frozen=True)
class Refusal:
    """A graph that is refused in one sentence, which contains `says`."""

    build: Callable[[], onnx.ModelProto]
    says: str

    @property
    def name(self) -> str:
        return self.build.__name__


class Drawing:
    """Every method adds nodes and returns the name of the tensor it made; weights are seeded."""

    def __init__(self, name: str, seed: int = 0, opset: int = OPSET) -> None:
        self.name = name
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.inputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def input(self, name: str, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        (output,) = self.ops(kind, 1, *inputs, **attributes)
        return output

    def ops(self, kind: str, count: int, *inputs: str, **attributes: object) -> list[str]:
        name = f"{kind.lower()}{len(self.nodes)}"
        outputs = [name] if count == 1 else [f"{name}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def weight(self, values: np.ndarray | float, name: str = "") -> str:
        name = name or f"w{len(self.weights)}"
        values = np.asarray(values)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def normal(self, *shape: int, scale: float = 0.1, name: str = "") -> str:
        return self.weight(self.random.normal(0, scale, shape), name)

    def around_one(self, *shape: int) -> str:
        return self.weight(self.random.uniform(0.8, 1.2, shape))

    def conv(
        self,
        x: str,
        c: int,
        k: int,
        window: int | Sequence[int] = 3,
        *,
        pads: Sequence[int] | None = None,
        group: int = 1,
        bias: bool = True,
        dilations: Sequence[int] = (1, 1),
        **attributes: object,
    ) -> str:
        """Convolve in as many dimensions as the window has, same padding unless told."""
        size = [window, window] if isinstance(window, int) else list(window)
        dilations = list(dilations)[: len(size)] + [1] * (len(size) - len(dilations))
        name = f"conv{len(self.nodes)}"
        fan_in = c // group * int(np.prod(size))
        weight = self.normal(k, c // group, *size, scale=np.sqrt(2 / fan_in), name=f"{name}.weight")
        inputs = [x, weight, *([self.normal(k, name=f"{name}.bias")] if bias else [])]
        if pads is None and "auto_pad" not in attributes:
            pads = [d * (n - 1) // 2 for d, n in zip(dilations, size, strict=True)] * 2
        if pads is not None:
            attributes["pads"] = list(pads)
        return self.op("Conv", *inputs, group=group, kernel_shape=size, dilations=dilations, **attributes)

    def conv_relu(self, x: str, c: int, k: int, window: int | Sequence[int] = 3, **more: object) -> str:
        return self.op("Relu", self.conv(x, c, k, window, **more))  # type: ignore[arg-type]

    def batch_norm(self, x: str, channels: int) -> str:
        mean, variance = self.normal(channels), self.around_one(channels)
        return self.op(
            "BatchNormalization", x, self.around_one(channels), self.normal(channels), mean, variance
        )

    def dense(self, x: str, c: int, k: int, bias: bool = True) -> str:
        """Multiply rows by a matrix, as exporters write a linear layer on more than two dimensions."""
        name = f"dense{len(self.nodes)}"
        y = self.op("MatMul", x, self.normal(c, k, scale=np.sqrt(1 / c), name=f"{name}.weight"))
        return self.op("Add", self.normal(k, name=f"{name}.bias"), y) if bias else y

    def head(self, x: str, c: int, classes: int = 6) -> str:
        """Classify: global average pool, flatten, Gemm."""
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op(
            "Gemm", x, self.normal(classes, c, scale=np.sqrt(1 / c)), self.normal(classes), transB=1
        )

    def finish(self, *outputs: str, dtypes: Sequence[int] = ()) -> onnx.ModelProto:
        types = list(dtypes) or [TensorProto.FLOAT] * len(outputs)
        values = [
            helper.make_tensor_value_info(name, dtype, None)
            for name, dtype in zip(outputs, types, strict=True)
        ]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, values, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
