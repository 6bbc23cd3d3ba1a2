"""TVM's ONNX importer, with errors that name the node, three operators kept whole, and recurrent layers.

Clip(x, 0, 6)         ->  R.clip(x, 0, 6)      (TVM: two opaque PrimFuncs)
Pad(x, pads)          ->  R.nn.pad(x, pads)    (TVM: an opaque PrimFunc)
Conv, pools with auto_pad=SAME_UPPER           ->  explicit padding
"""

import contextlib
import io
import math
import warnings
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from tersor.error import UserError
from tersor.frontend.einsum import product_of
from tersor.frontend.graph import Graph, first_line, title
from tersor.frontend.onnx_recurrent import RECURRENT, convert

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
WINDOWED = ("Conv", "MaxPool", "AveragePool", "LpPool")
CONTROL_FLOW = ("If", "Loop", "Scan")


def refuse_control_flow(graph: Graph) -> None:
    """Raise UserError naming the first node with a graph inside."""
    for node in graph.nodes:
        if node.op_type in CONTROL_FLOW:
            raise UserError(f"control flow is not supported: {title(node)} is an operator {node.op_type}")


def to_relax(model: onnx.ModelProto) -> tvm.IRModule:
    """Convert a model with static shapes to Relax, its initializers as named parameters after the inputs.

    Raises UserError naming the node for everything that TVM's importer cannot convert.
    """
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    importer = _Importer({}, "float32", keep_params_in_input=True, sanitize=False)
    # TVM prints a failed operator's arguments before it raises, and warns of what we have checked.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph: Any = model.graph  # TVM annotates a ModelProto and takes a GraphProto
            return importer.from_onnx(graph, opset)
        except Exception as error:
            if importer.constructing:
                importer.bb._end_block()  # the builder leaves its block open, and C++ would warn on stderr
            if isinstance(error, UserError):
                raise
            raise UserError(f"the model cannot be imported: {first_line(error)}") from error


class _Importer(ONNXGraphImporter):
    constructing = False

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        known = ("Constant", *RECURRENT)
        others = onnx.GraphProto(node=[node for node in graph.node if node.op_type not in known])
        try:
            super()._check_for_unsupported_ops(others)
        except tvm.error.OpNotImplemented as error:
            names = str(error).split(": ")[-1].split(", ")
            node = next(node for node in graph.node if node.op_type in names)
            raise UserError(
                f"the operator {node.op_type} of the node {title(node)} is not supported"
            ) from error

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            if not node.name:  # the converters see nothing of a node but its attributes and this name
                node.name = node.output[0]
        self.constructing = True
        super()._construct_nodes(graph)
        self.constructing = False

    def _convert_operator(self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int) -> relax.Expr:
        name = attrs["tvm_custom"]["name"]
        try:
            if op_name in WINDOWED:
                _explicit_padding(inputs, attrs)
            if op_name == "Clip" and (bounds := _bounds(inputs)) is not None:
                return self.bb.normalize(relax.op.clip(inputs[0], *bounds))
            if op_name == "Pad" and (call := _pad(inputs, attrs)) is not None:
                return self.bb.normalize(call)
            if (
                op_name == "Einsum"
                and (call := product_of(self.bb, attrs["equation"].decode(), inputs)) is not None
            ):
                return self.bb.normalize(call)
            if op_name in RECURRENT:
                return convert(self.bb, op_name, inputs, attrs)
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except Exception as error:
            reason = first_line(error)
            raise UserError(f"the node {name!r}, a {op_name}, cannot be imported: {reason}") from error


def _bounds(inputs: Any) -> Any:
    """Return literal bounds; a missing one, or NaN as ONNX has it, is infinite."""
    bounds = [-math.inf, math.inf]
    if inputs[0].ty.dtype != "float32":
        return None
    for i in (0, 1):
        if inputs[i + 1] is None:
            continue
        if (value := _number(inputs[i + 1])) is None:
            return None
        if not np.isnan(value):
            bounds[i] = float(value)
    return bounds[0], bounds[1]


def _pad(inputs: Any, attrs: dict[str, Any]) -> relax.Expr | None:
    x, pads, value = inputs[0], _array(inputs[1]), inputs[2]
    fill = 0.0 if value is None else _number(value)
    mode = PAD_MODES.get(attrs.get("mode", b"constant").decode())
    if pads is None or fill is None or mode is None or inputs[3] is not None or (pads < 0).any():
        return None
    before, after = np.split(pads, 2)
    return relax.op.nn.pad(x, np.stack([before, after], 1).ravel().tolist(), mode, float(fill))


def _explicit_padding(inputs: Any, attrs: dict[str, Any]) -> None:
    mode = attrs.get("auto_pad", b"NOTSET").decode()
    if not mode.startswith("SAME"):
        return
    size = [int(dim) for dim in inputs[0].ty.shape.values[2:]]
    kernel = attrs.get("kernel_shape") or [int(dim) for dim in inputs[1].ty.shape.values[2:]]
    ones = [1] * len(size)
    total = [
        max((math.ceil(n / stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
        for n, k, stride, dilation in zip(
            size, kernel, attrs.get("strides", ones), attrs.get("dilations", ones), strict=True
        )
    ]
    small, large = [p // 2 for p in total], [p - p // 2 for p in total]
    attrs["pads"] = tuple(small + large if mode == "SAME_UPPER" else large + small)
    del attrs["auto_pad"]


def _array(expr: Any) -> np.ndarray | None:
    if not isinstance(expr, tvm.ir.GenericConst):
        return None
    constant: Any = expr  # tvm ships no types
    return constant.value.numpy()


def _number(expr: Any) -> float | None:
    array = _array(expr)
    return None if array is None else array.item()
