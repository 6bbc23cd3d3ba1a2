"""A quantized module as an ONNX model in QDQ form.

    dequantize(quantize(x))                     QuantizeLinear, DequantizeLinear: uint8, one scale
    dequantize(codes of w)                      an int8 initializer and DequantizeLinear, a scale per channel
    add(conv2d(x, w), b)                        Conv; the bias an int32 initializer and DequantizeLinear
    anything else                               the node of the tables in layers, elementwise and movement

Runtimes that know the form compute each such layer in integers; the codes are those of our own integers.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import checker

from tersor.arithmetic import quantize_bias
from tersor.error import UserError
from tersor.export import elementwise, layers, movement
from tersor.export.writer import Writer
from tersor.ir.chains import Chain, any_weight, codes_of_weight, find_chains
from tersor.ir.graph import Expr, Graph, Module, operator
from tersor.ir.grid import grid_below
from tersor.ir.operators import ATTRIBUTE
from tersor.ir.untyped import relax

FORMS = {**layers.FORMS, **elementwise.FORMS, **movement.FORMS}
# What onnxruntime calls a dequantized weight, too; the importer gives it its own name back.
DEQUANTIZED = "_DequantizeLinear_Output"
WITH_BIAS = {"nn.conv2d": layers.convolution, "matmul": layers.product}


def export_onnx(mod: Module, outputs: Sequence[str], name: str = "tersor") -> onnx.ModelProto:
    """Write a module in QDQ form, after quantization and before it becomes integers, as an ONNX model.

    `outputs` are the outputs' names, in order; inputs keep theirs. Raises UserError naming the operator that
    ONNX (opset 17) has no form for.
    """
    return _Exporter(mod).write(outputs, name)


class _Exporter:
    def __init__(self, mod: Module) -> None:
        self.graph = Graph(mod)
        self.writer = Writer(self.graph)
        graph = self.graph
        chains = find_chains(graph, lambda expr: any_weight(graph, expr))
        self.biased = {chain.variables[1]: chain for chain in chains if chain.bias is not None}
        self.inside = {chain.variables[0] for chain in self.biased.values()}
        self.tuples: dict[Expr, list[str]] = {}

    def write(self, outputs: Sequence[str], name: str) -> onnx.ModelProto:
        writer, graph = self.writer, self.graph
        wanted = [writer.name(output) for output in outputs]
        for var in graph.inputs:
            writer.bind(var, writer.name(var.name))
        for var, value in graph.bindings:
            if var in self.inside:
                continue
            if operator(value) == "split":
                self.tuples[var] = movement.split(writer, value)
            else:
                writer.bind(var, self._node(var, value))
        model = writer.finish(name, dict(zip(wanted, graph.outputs, strict=True)))
        checker.check_model(model)
        return model

    def _node(self, var: Expr, value: Expr) -> str:
        chain = self.biased.get(var)
        if chain is not None:
            return WITH_BIAS[chain.operator](self.writer, chain.call, self._bias(chain))
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.tuples:
            return self.tuples[value.tuple_value][value.index]
        match operator(value):
            case "quantize":
                return self._quantize("QuantizeLinear", value)
            case "dequantize":
                return self._quantize("DequantizeLinear", value)
            case kind if kind in FORMS:
                return FORMS[kind](self.writer, value)
            case _:
                raise UserError(
                    f"the operator {self._title(value)} has no ONNX form: the model cannot be exported"
                )

    def _quantize(self, kind: str, value: Expr) -> str:
        scale, zero_point = (self.graph.value(argument) for argument in value.args[1:3])
        if scale is None or zero_point is None:
            raise UserError("a quantization whose scale is computed has no ONNX form")
        axes: dict[str, Any] = {"axis": int(value.attrs.axis)} if scale.ndim else {}
        zeros = np.broadcast_to(zero_point, scale.shape).copy()
        codes = value.args[0]
        stem = f"{codes.name}." if codes in self.graph.weights else ""
        name = f"{codes.name}{DEQUANTIZED}" if stem else ""
        return self.writer.node(
            kind,
            self.writer.read(codes),
            self.writer.constant(scale, f"{stem}scale"),
            self.writer.constant(zeros, f"{stem}zero_point"),
            name=name,
            **axes,
        )

    def _bias(self, chain: Chain) -> str:
        """Write a bias [K]: of an integer layer as int32 codes at the scale of its accumulator."""
        assert chain.bias is not None
        name = chain.bias_name or f"{chain.layer}.bias"
        grid = grid_below(self.graph, chain.data)
        if grid is None or codes_of_weight(self.graph, chain.weight) is None:
            return self.writer.constant(chain.bias, name)
        scales = self.graph.value(self.graph.definition(chain.weight).args[1])
        assert scales is not None
        scale = np.float64(grid.scale) * scales.astype(np.float64)
        codes = self.writer.constant(quantize_bias(chain.bias, scale), name)
        step = self.writer.constant(scale.astype(np.float32), f"{name}.scale")
        zero = self.writer.constant(np.zeros(scale.shape, np.int32), f"{name}.zero_point")
        return self.writer.node("DequantizeLinear", codes, step, zero, name=f"{name}{DEQUANTIZED}", axis=0)

    def _title(self, value: Any) -> str:
        """Name what cannot be exported: a Relax operator, or one of ours by the attribute it carries."""
        if operator(value) and operator(value) != "call_tir":
            return operator(value)
        function = self.graph.mod[value.args[0]] if isinstance(value, relax.Call) else None
        attributes = getattr(function, "attrs", None)
        if attributes is not None and ATTRIBUTE in attributes:
            return json.loads(str(attributes[ATTRIBUTE]))["operator"]
        return str(value.args[0].name_hint) if function is not None else type(value).__name__
