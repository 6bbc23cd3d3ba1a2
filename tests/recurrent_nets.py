"""Tiny seeded recurrent networks in ONNX, built with onnx.helper and numpy alone."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3}


class Tagger:
    """A network over sequences [T, B, ...] that grows one layer at a time; `make` gives the model."""

    def __init__(self, steps: int = 6, batch: int = 1, features: int = 8, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.steps, self.batch, self.features = steps, batch, features
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, batch, features])]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.last = "x"

    def weight(self, name: str, *shape: int) -> str:
        fan_in = shape[-1]
        self.weights[name] = self.random.normal(0, 1 / np.sqrt(fan_in), shape).astype(np.float32)
        return name

    def ints(self, name: str, *values: int) -> str:
        self.weights[name] = np.array(values, np.int64)
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], name: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        self.last = outputs[0]

    def embedding(self, words: int) -> None:
        """Read the input as word numbers [T, B] and look them up."""
        shape = [self.steps, self.batch]
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, shape)]
        table = self.weight("embedding.weight", words, self.features)
        self.weights[table] *= np.float32(np.sqrt(self.features))
        self.node("Gather", [table, "x"], ["embedded"], "/embedding/Gather")

    def recurrent(
        self,
        kind: str,
        hidden: int,
        direction: str = "forward",
        scope: str = "/rnn",
        bias: bool = True,
        states: bool = False,
        shared: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Add a layer as exporters of torch write one; give the names of its raw outputs."""
        gates, count = GATES[kind] * hidden, 2 if direction == "bidirectional" else 1
        tag = f"onnx::{kind}_{len(self.nodes)}"
        if not shared:
            self.weight(f"{tag}_W", count, gates, self.features)
            self.weight(f"{tag}_R", count, gates, hidden)
            self.weight(f"{tag}_B", count, 2 * gates)
        source = shared or tag
        inputs = [self.last, f"{source}_W", f"{source}_R", f"{source}_B" if bias else ""]
        if states:
            names = ("h", "c")[: GATES[kind] - 2]
            shape = [count, self.batch, hidden]
            self.inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in names]
            inputs += ["", *names]
        raw = [f"{tag}_{each}" for each in ("Y", "Yh", "Yc")[: GATES[kind] - 1]]
        options = {"hidden_size": hidden, "direction": direction, **attributes}
        self.node(kind, inputs, raw, f"{scope}/{kind}", **options)
        self.node("Transpose", [raw[0]], [f"{tag}_t"], f"{scope}/Transpose", perm=[0, 2, 1, 3])
        shape = self.ints(f"{tag}_shape", 0, 0, -1)
        self.node("Reshape", [f"{tag}_t", shape], [f"{tag}_y"], f"{scope}/Reshape")
        self.features = count * hidden
        return tuple(raw)

    def dense(self, outputs: int, name: str = "fc") -> None:
        """Add a dense layer for each step."""
        self.weight(f"{name}.weight", self.features, outputs)
        self.weights[f"{name}.weight"] *= np.float32(np.sqrt(outputs / self.features))
        bias = self.weight(f"{name}.bias", outputs)
        self.node("MatMul", [self.last, f"{name}.weight"], [f"{name}_product"], f"/{name}/MatMul")
        self.node("Add", [f"{name}_product", bias], [f"{name}_out"], f"/{name}/Add")
        self.features = outputs

    def make(self, *outputs: str) -> onnx.ModelProto:
        """Give the model; its outputs are the named tensors, by default the last one."""
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs or (self.last,)]
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "tagger", self.inputs, results, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def layer(
    kind: str, direction: str = "forward", *, bias: bool = True, states: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """One layer with all of its outputs."""
    net = Tagger(batch=2)
    outputs = net.recurrent(kind, 12, direction, bias=bias, states=states, **attributes)
    net.nodes = net.nodes[:1]
    return net.make(*outputs)


def lstm_tagger(steps: int = 12, hidden: int = 32, layers: int = 2) -> onnx.ModelProto:
    """Words -> embedding -> bidirectional LSTMs -> scores of ten tags for each step."""
    net = Tagger(steps, features=24)
    net.embedding(100)
    for _ in range(layers):
        net.recurrent("LSTM", hidden, "bidirectional", "/lstm")
    net.dense(10)
    return net.make()


def gru_tagger(steps: int = 12, hidden: int = 32, after: int = 1) -> onnx.ModelProto:
    """Features -> bidirectional GRU -> scores of ten tags for each step."""
    net = Tagger(steps, features=24)
    net.recurrent("GRU", hidden, "bidirectional", "/gru", linear_before_reset=after)
    net.dense(10)
    return net.make()
