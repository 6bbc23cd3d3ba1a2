"""An ONNX graph taken apart: nodes, and every constant as a numpy array beside them.

Initializers and `Constant` nodes are the same thing to everything that follows, and arrays held outside the
protobuf are neither copied by shape inference nor bounded by its two gigabytes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tersor.buckets import TensorSpec
from tersor.error import UserError

# Shape inference reads the values of small integer constants only (targets of Reshape, pads, axes).
INFERENCE_CONSTANT = 1024


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, constants by name, the real inputs, and the names of the outputs."""

    name: str
    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    constants: dict[str, np.ndarray]
    opsets: tuple[onnx.OperatorSetIdProto, ...]
    types: dict[str, onnx.TypeProto] = field(default_factory=dict)

    @classmethod
    def read(cls, model: onnx.ModelProto) -> Self:
        """Take a model apart; its value types, which may hold stale shapes, are left behind."""
        graph = model.graph
        if graph.sparse_initializer:
            raise UserError("sparse initializers are not supported: store the model's weights densely")
        constants = {}
        for tensor in graph.initializer:
            try:
                constants[tensor.name] = numpy_helper.to_array(tensor)
            except Exception as error:
                raise UserError(f"the weight {tensor.name!r} cannot be read: {first_line(error)}") from error
        nodes = []
        for node in graph.node:
            if node.op_type == "Constant":
                constants[node.output[0]] = _constant_value(node)
            else:
                nodes.append(node)
        # Before IR version 4 every initializer had to be listed as an input, too.
        inputs = tuple(value for value in graph.input if value.name not in constants)
        outputs = tuple(value.name for value in graph.output)
        return cls(graph.name, inputs, outputs, tuple(nodes), constants, tuple(model.opset_import))

    def model(self, constants: Iterable[onnx.NodeProto] = ()) -> onnx.ModelProto:
        """Put the model together; `constants` are nodes that stand in for the arrays of the same name."""
        constants = list(constants)
        apart = {node.output[0] for node in constants}
        weights = [
            numpy_helper.from_array(array, name)
            for name, array in self.constants.items()
            if name not in apart
        ]
        outputs = [self._value_info(name) for name in self.outputs]
        nodes = [*constants, *self.nodes]
        graph = helper.make_graph(nodes, self.name or "main", self.inputs, outputs, weights)
        version = max(8, helper.find_min_ir_version_for(self.opsets, ignore_unknown=True))
        return helper.make_model(graph, opset_imports=self.opsets, ir_version=version)

    def inferred(self, *, strict: bool = False) -> "Graph":
        """Return the graph with the types of all tensors that onnx can infer."""
        small = {
            n: a for n, a in self.constants.items() if a.dtype.kind in "ib" and a.size <= INFERENCE_CONSTANT
        }
        large = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in self.constants.items()
            if n not in small
        ]
        skeleton = replace(self, inputs=(*self.inputs, *large), constants=small).model()
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton, strict_mode=strict, data_prop=True)
        except Exception as error:
            raise UserError(f"the model's shapes do not fit together: {first_line(error)}") from error
        values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
        return replace(self, types={value.name: value.type for value in values})

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the static shape of a tensor, or None where it is not known."""
        if name in self.constants:
            return self.constants[name].shape
        tensor = self.types[name].tensor_type if name in self.types else None
        if tensor is None or not tensor.HasField("shape"):
            return None
        if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            return None
        return tuple(dim.dim_value for dim in tensor.shape.dim)

    def pruned(self) -> "Graph":
        """Return the graph without nodes and constants that no output needs."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        constants = {name: array for name, array in self.constants.items() if name in needed}
        return replace(self, nodes=tuple(reversed(kept)), constants=constants)

    def uses(self) -> Counter[str]:
        """Count the readers of every tensor; being an output is one."""
        return Counter([name for node in self.nodes for name in node.input] + list(self.outputs))

    def _value_info(self, name: str) -> onnx.ValueInfoProto:
        value = onnx.ValueInfoProto(name=name)
        if name in self.types:
            value.type.CopyFrom(self.types[name])
        return value


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Return a node's attributes as Python values, text as str."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}


def title(node: onnx.NodeProto) -> str:
    """Name a node for a person: its name, or the tensor it makes."""
    return repr(node.name or next(iter(node.output), node.op_type))


def input_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Describe the inputs of a model whose shapes are static."""
    specs = []
    for value in Graph.read(model).inputs:
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        specs.append(TensorSpec(value.name, shape, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))))
    return tuple(specs)


def first_line(error: BaseException) -> str:
    """Shorten an exception of a library to what fits into a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _constant_value(node: onnx.NodeProto) -> np.ndarray:
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            return numpy_helper.to_array(value)
        case "value_float" | "value_floats":
            return np.array(value, np.float32)
        case "value_int" | "value_ints":
            return np.array(value, np.int64)
        case other:
            raise UserError(f"the constant {title(node)} has the unsupported attribute {other!r}")
