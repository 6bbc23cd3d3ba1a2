"""Decide which constants of an ONNX graph are weights, and what the weights are called.

A weight becomes a named input of the imported function. Scalars, shapes, pads and bounds are no weights:
TVM's importer wants them as constants.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tersor.frontend.graph import Graph
from tersor.naming import unused_name

# Inputs that TVM's importer reads as numbers while it converts the node, by position.
NUMBERS = {"Clip": (1, 2), "Pad": (1, 2, 3), "Resize": (1, 2, 3), "Upsample": (1,), "OneHot": (1, 2)}
# What an exporter calls a tensor that lost its name, mostly a weight with its batch norm folded in.
ANONYMOUS = "onnx::"
ROLES = {1: "weight", 2: "bias"}


def constant_nodes(graph: Graph) -> list[onnx.NodeProto]:
    """Return `Constant` nodes for all constants that are no weights."""
    numbers = {
        node.input[i] for node in graph.nodes for i in NUMBERS.get(node.op_type, ()) if i < len(node.input)
    }
    return [
        helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(array, name))
        for name, array in graph.constants.items()
        if name in numbers or not _may_be_weight(array)
    ]


def _may_be_weight(array: np.ndarray) -> bool:
    wide_integer = array.dtype.kind in "iu" and array.dtype.itemsize > 1
    return array.ndim > 0 and array.dtype.kind not in "bSUO" and not wide_integer


def name_weights(graph: Graph) -> Graph:
    """Rename weights without a name of their own after the module that reads them.

    Conv `/_blocks.0/_conv/Conv` reading `onnx::Conv_912`  ->  `_blocks.0._conv.weight`
    """
    renamed: dict[str, str] = {}
    taken = set(graph.constants) | {value.name for value in graph.inputs}
    for node in graph.nodes:
        for old, new in _proposals(node):
            if old in graph.constants and old not in renamed and new not in taken:
                renamed[old] = new
                taken.add(new)
    for old in graph.constants:
        # TVM's importer drops the prefix without looking whether the rest is still unique.
        if old.startswith(ANONYMOUS) and old not in renamed:
            renamed[old] = unused_name(old.removeprefix(ANONYMOUS), taken)
            taken.add(renamed[old])
    nodes = []
    for node in graph.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
        nodes.append(copy)
    constants = {renamed.get(name, name): array for name, array in graph.constants.items()}
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), constants=constants, outputs=outputs)


def _proposals(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    module = module_of(node.name)
    if module is None or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return
    for position, role in ROLES.items():
        if position < len(node.input) and node.input[position].startswith(ANONYMOUS):
            yield node.input[position], f"{module}.{role}"


def module_of(name: str) -> str | None:
    """Read the module path off a node's scope name, `/layers/layers.0/fc/MatMul` -> `layers.0.fc`."""
    scopes = name.strip("/").split("/")[:-1]
    path: list[str] = []
    for scope in scopes:
        if path and scope.startswith(path[-1] + "."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path) or None
