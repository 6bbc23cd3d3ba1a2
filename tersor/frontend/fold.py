"""Fold constants of an ONNX graph and drop nodes that do nothing.

    Reshape(x, Concat(Gather(Shape(x), 0), [-1]))   ->   Reshape(x, [1, -1])
    Conv(Pad(x, zeros), w)                          ->   Conv(Pad(x, [0, 0, 1, 1, ...]), w)
    Relu(Identity(Dropout(x)))                      ->   Relu(x)

Nodes whose inputs are all constant are run by onnx's reference evaluator, one at a time.
"""

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tersor.frontend.graph import Graph, attributes, title

# A fold must not grow the model: at most this many elements more than those it reads (an Expand can be huge).
GROWTH = 1 << 16
# Quantized weights keep their integer codes; random numbers differ from run to run.
KEPT = {
    "QuantizeLinear",
    "DequantizeLinear",
    "Bernoulli",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
}


def fold_constants(graph: Graph) -> Graph:
    """Fold until nothing changes: each folded shape may let onnx infer the next one."""
    while True:
        graph = graph.inferred()
        folded = _fold_once(graph)
        if len(folded.nodes) == len(graph.nodes):
            return graph.pruned()
        graph = folded


def _fold_once(graph: Graph) -> Graph:
    constants = dict(graph.constants)
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = _with_inputs(node, renamed)
        if _is_identity(node, graph) and not _names_output(node, graph):
            renamed[node.output[0]] = node.input[0]
        elif (values := _evaluate(node, graph, constants)) is not None:
            constants.update(values)
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _with_inputs(node: onnx.NodeProto, renamed: dict[str, str]) -> onnx.NodeProto:
    if not any(name in renamed for name in node.input):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [renamed.get(name, name) for name in node.input]
    return copy


def _is_identity(node: onnx.NodeProto, graph: Graph) -> bool:
    match node.op_type:
        case "Identity":
            return True
        case "Dropout":  # inference only: the mask, a second output, must be unused
            return not (len(node.output) > 1 and graph.uses()[node.output[1]])
        case "Cast":
            source = graph.types.get(node.input[0])
            return source is not None and source.tensor_type.elem_type == attributes(node)["to"]
        case _:
            return False


def _names_output(node: onnx.NodeProto, graph: Graph) -> bool:
    """Tell whether the node's name for its tensor must survive because it is an output's."""
    return node.output[0] in graph.outputs


def _evaluate(
    node: onnx.NodeProto, graph: Graph, constants: dict[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    """Return the node's outputs if they are constant and small enough, else None."""
    if any(name in graph.outputs for name in node.output):
        return None
    if node.op_type in ("Shape", "Size") and node.input[0] not in constants:
        shape = graph.shape(node.input[0])
        return None if shape is None else {node.output[0]: _shape_value(node, shape)}
    read = [name for name in node.input if name]
    if node.op_type in KEPT or not read or not all(name in constants for name in read):
        return None
    return _run(node, graph, {name: constants[name] for name in read})


def _shape_value(node: onnx.NodeProto, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64))
    options = attributes(node)
    return np.array(shape, np.int64)[options.get("start", 0) : options.get("end", None)]


def _run(node: onnx.NodeProto, graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    outputs = tuple(name for name in node.output if name)
    alone = Graph(title(node), (), outputs, (node,), inputs, graph.opsets).inferred()
    sizes = [np.prod(shape, dtype=np.int64) for name in outputs if (shape := alone.shape(name)) is not None]
    if sum(sizes) > GROWTH + sum(array.size for array in inputs.values()):
        return None
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    try:
        evaluator = ReferenceEvaluator(replace(alone, inputs=tuple(values), constants={}).model())
        results = evaluator.run(None, inputs)
    except Exception:  # what the evaluator does not know stays in the graph, where the importer may know it
        return None
    return {name: np.asarray(result) for name, result in zip(outputs, results, strict=True)}
