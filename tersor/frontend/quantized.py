"""Weights that another tool has quantized: their integer codes beside the float values they stand for.

    Conv(x, DequantizeLinear(codes, scale, zero_point))   ->   Conv(x, w)   and   w is scale * codes

Canonicalization then knows one kind of weight; `tersor.passes.quantization.imported` finds the codes again in
what it made of them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tersor.frontend.graph import Graph, attributes

Array = NDArray[Any]
# What tools make of a weight's name: onnxruntime appends, NNCF puts around.
DECORATED = re.compile(r"(.+)_DequantizeLinear_Output|dq_output_(.+)_\d+")


@dataclass(frozen=True)
class Quantized:
    """A constant `real` (float32) that is codes times a scale; `codes` (int8) have the zero point 0."""

    real: Array
    codes: Array


def dequantize_constants(graph: Graph) -> tuple[Graph, list[Quantized]]:
    """Compute every (De)QuantizeLinear of constants; give the codes of those that int8 can hold."""
    constants, nodes = dict(graph.constants), []
    names: dict[str, str] = {}
    found, uses = [], graph.uses()
    for node in graph.nodes:
        node = _renamed(node, names)
        if not _is_constant(node, constants) or any(name in graph.outputs for name in node.output):
            nodes.append(node)
            continue
        values = [constants[name] for name in node.input]
        result = _quantize(node, *values) if node.op_type == "QuantizeLinear" else _real(node, *values)
        (name,) = node.output
        if uses[node.input[0]] == 1:
            del constants[node.input[0]]  # what is quantized takes its name
        if node.op_type == "DequantizeLinear":
            names[name] = name = _own_name(name, constants)
            codes = values[0].astype(np.int64) - _along(node, values[0], values[2] if values[2:] else None)
            if codes.size and codes.min() >= -128 and codes.max() <= 127:
                found.append(Quantized(result, codes.astype(np.int8)))
        constants[name] = result
    return replace(graph, nodes=tuple(nodes), constants=constants).pruned(), found


def by_name(graph: Graph, found: Iterable[Quantized]) -> dict[str, Array]:
    """Give the codes by what the weights are called in `graph`."""
    codes = {id(each.real): each.codes for each in found}
    return {name: codes[id(array)] for name, array in graph.constants.items() if id(array) in codes}


def _is_constant(node: onnx.NodeProto, constants: dict[str, Array]) -> bool:
    known = node.op_type in ("QuantizeLinear", "DequantizeLinear") and not attributes(node).get("block_size")
    if not known or not all(name in constants for name in node.input):
        return False
    # Codes narrower than a byte and floats of 8 bits have types that numpy does not know.
    return all(constants[name].dtype.kind in "iuf" for name in node.input)


def _quantize(node: onnx.NodeProto, real: Array, scale: Array, zero_point: Array | None = None) -> Array:
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    steps = np.rint(real.astype(np.float32) / _along(node, real, scale, np.float32))
    info = np.iinfo(dtype)
    return np.clip(steps + _along(node, real, zero_point), info.min, info.max).astype(dtype)


def _real(node: onnx.NodeProto, codes: Array, scale: Array, zero_point: Array | None = None) -> Array:
    centred = codes.astype(np.int64) - _along(node, codes, zero_point)
    return (centred * _along(node, codes, scale, np.float64)).astype(np.float32)


def _along(node: onnx.NodeProto, tensor: Array, values: Array | None, dtype: Any = np.int64) -> Any:
    """Give scales or zero points so that they broadcast over the tensor, whatever their axis."""
    if values is None:
        return dtype(0)
    if values.size == 1:
        return values.astype(dtype).reshape(())
    shape = [1] * tensor.ndim
    axis = attributes(node).get("axis", 1)
    assert isinstance(axis, int)
    shape[axis] = -1
    return values.astype(dtype).reshape(shape)


def _own_name(name: str, taken: dict[str, Array]) -> str:
    """Give back the name that the weight had before a tool quantized it, if it is free."""
    match = DECORATED.fullmatch(name)
    original = next((group for group in match.groups() if group), name) if match else name
    return name if original in taken else original


def _renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    return copy
