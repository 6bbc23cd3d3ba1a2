"""A writer of ONNX graphs: nodes and initializers with names of their own, one for each Relax value."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tersor.error import UserError
from tersor.ir.graph import Expr, Graph, shape_of
from tersor.ir.untyped import relax, tvm
from tersor.naming import unused_name

Array = NDArray[Any]
OPSET = 17
IR_VERSION = 8


class Writer:
    """Collects what Relax values become; a value is known by its tensor's name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._names: dict[Expr, str] = {}
        self._taken: set[str] = set()

    def name(self, wanted: str) -> str:
        """Reserve a name: the wanted one, or that with a number."""
        unique = unused_name(wanted, self._taken)
        self._taken.add(unique)
        return unique

    def bind(self, var: Expr, name: str) -> None:
        """Say which tensor a Relax variable has become."""
        self._names[var] = name

    def read(self, expr: Expr) -> str:
        """Give the tensor of a Relax value; weights, constants, shapes and numbers become initializers."""
        if isinstance(expr, relax.Var):
            if expr not in self._names:
                self._names[expr] = self.constant(self.graph.weights[expr], expr.name)
            return self._names[expr]
        if isinstance(expr, relax.ShapeExpr):
            return self.ints([int(extent) for extent in expr.values])
        if isinstance(expr, tvm.ir.GenericConst):
            return self.constant(expr.value.numpy())
        raise UserError(f"the value {expr} has no ONNX form")

    def constant(self, value: Array, name: str = "constant") -> str:
        """Store an initializer."""
        name = self.name(name)
        self._initializers.append(
            numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        )
        return name

    def ints(self, values: Sequence[int], name: str = "shape") -> str:
        """Store a list of integers, as axes and shapes are given."""
        return self.constant(np.array(values, np.int64), name)

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output and give its tensor."""
        return self.nodes(kind, *inputs, outputs=1, name=name, **attributes)[0]

    def nodes(self, kind: str, *inputs: str, outputs: int, name: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs and give their tensors."""
        made = [self.name(name or kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), made, name=made[0], **attributes))
        return made

    def finish(self, title: str, outputs: Mapping[str, Expr]) -> onnx.ModelProto:
        """Give the model; `outputs` are the Relax values to return by their names in it."""
        inputs = [_info(self._names[var], var) for var in self.graph.inputs]
        made = {name for node in self._nodes for name in node.output}
        renamed: dict[str, str] = {}
        for name, var in outputs.items():
            tensor = self.read(var)
            if tensor in made and tensor not in renamed:
                renamed[tensor] = name
            else:  # an input, a weight, or returned twice
                source = renamed.get(tensor, tensor)
                self._nodes.append(helper.make_node("Identity", [source], [name], name=name))
        for node in self._nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        results = [_info(name, var) for name, var in outputs.items()]
        graph = helper.make_graph(self._nodes, title, inputs, results, self._initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tersor")


def _info(name: str, var: Expr) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type(str(var.ty.dtype)), shape_of(var))


def element_type(dtype: str) -> int:
    """Give the number by which ONNX knows a dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
