"""Operators that follow their operands: what has no kernel runs channels last where its operand is so.

conv2d > sigmoid > conv2d   ->   no change of layout between the three
"""

from collections.abc import Callable
from dataclasses import replace

from tersor.ir.graph import Builder, Expr, Graph, operands, operator, rebind, shape_of
from tersor.ir.operators import (
    Add,
    AveragePool,
    Dequantize,
    FakeQuantize,
    Operator,
    Quantize,
    Rescale,
    call_arguments,
    prim_func,
    read_operator,
)
from tersor.ir.untyped import relax
from tersor.targets.cpu.partition import Composite, is_convolution_input
from tersor.targets.cpu.tensors import Tensors

ELEMENTWISE = (
    "nn.relu", "nn.relu6", "clip", "sigmoid", "tanh", "exp", "add", "multiply", "subtract", "divide",
    "maximum", "minimum", "nn.silu", "nn.gelu", "nn.leakyrelu",
)  # fmt: skip


class Followers:
    """Emits what has no kernel, in the layout that spares most changes.

    `composites` are the layers around it: a convolution's input had better be made channels last.
    """

    def __init__(
        self, graph: Graph, builder: Builder, tensors: Tensors, composites: dict[Expr, Composite]
    ) -> None:
        self.graph = graph
        self.builder = builder
        self.tensors = tensors
        self.composites = composites

    def emit(self, var: Expr, value: Expr) -> None:
        """Emit the operator that `var` is bound to."""
        if not self._emit_channels_last(var, value):
            replacements = {operand: self.tensors.channels_first(operand) for operand in operands(value)}
            self.tensors.first[var] = self.builder.emit(rebind(value, replacements), var.name)

    def _prefers_last(self, tensors: list[Expr], var: Expr) -> bool:
        """Whether an operator that runs in either layout should run channels last."""
        if not all(_is_image(tensor) for tensor in (*tensors, var)):
            return False
        known = self.tensors
        made_last = [tensor in known.last and tensor not in known.first for tensor in tensors]
        return any(made_last) or is_convolution_input(self.composites, var)

    def _emit_channels_last(self, var: Expr, value: Expr) -> bool:
        """Emit an operator channels last if it can run there and should; tell whether it was."""
        tensors = [operand for operand in operands(value) if operand not in self.graph.weights]
        if not tensors or not self._prefers_last(tensors, var):
            return self._emit_flattened(var, value, tensors)
        emit = self._channels_last_form(var, value, tensors)
        if emit is None:
            return False
        self.tensors.last[var] = emit()
        return True

    def _channels_last_form(self, var: Expr, value: Expr, tensors: list[Expr]) -> Callable[[], Expr] | None:
        last = self.tensors.channels_last
        step = read_operator(self.graph.mod, value)
        if isinstance(step, AveragePool):
            step = replace(step, channels_last=True)
        if isinstance(step, Quantize):
            quantized = self.tensors.interleaved(tensors[0], step)
            if quantized is not None:
                return lambda: quantized
        if isinstance(step, Quantize | Dequantize | Add | Rescale | AveragePool):
            operator_step = step
            return lambda: self._call_operator(operator_step, [last(t) for t in tensors], var)
        if isinstance(step, FakeQuantize) and len(tensors) == 1:
            stored = [self.tensors.channels_first(each) for each in call_arguments(value)[1:]]
            grid = replace(step, axis=3)
            return lambda: self._call_operator(grid, [last(tensors[0]), *stored], var)
        same_shape = all(shape_of(tensor) == shape_of(var) for tensor in tensors)
        match operator(value):
            case name if name in ELEMENTWISE and same_shape and self._others_are_scalars(value, tensors):
                return lambda: self.builder.emit(rebind(value, self.tensors.all_last(operands(value))))
            case "concat" if _joins_channels(value) and len(tensors) == len(value.args[0].fields):
                return lambda: self.builder.emit(relax.op.concat([last(t) for t in tensors], 3))
            case "mean" if [int(axis) for axis in value.attrs.axis or ()] == [2, 3] and value.attrs.keepdims:
                return lambda: self.builder.emit(relax.op.mean(last(tensors[0]), [1, 2], True))
            case "nn.max_pool2d" | "nn.avg_pool2d" if str(value.attrs.layout) == "NCHW":
                return lambda: self._emit_pool(value, tensors[0])
            case _:
                return None

    def _emit_flattened(self, var: Expr, value: Expr, tensors: list[Expr]) -> bool:
        """Emit a reshape of 1x1 images, which is the same in both layouts."""
        known = self.tensors
        is_view = operator(value) in ("reshape", "squeeze", "flatten") and len(tensors) == 1
        if not is_view or tensors[0] in known.first or shape_of(tensors[0])[2:] != (1, 1):
            return False
        shape = relax.ShapeExpr(shape_of(var))
        known.first[var] = self.builder.emit(relax.op.reshape(known.last[tensors[0]], shape))
        return True

    def _others_are_scalars(self, value: Expr, tensors: list[Expr]) -> bool:
        """Whether the stored operands have one value, which means the same in either layout."""
        stored = [self.graph.value(argument) for argument in value.args if argument not in tensors]
        return all(each is None or each.size == 1 for each in stored)

    def _emit_pool(self, value: Expr, tensor: Expr) -> Expr:
        a = value.attrs
        pool = relax.op.nn.max_pool2d if operator(value) == "nn.max_pool2d" else relax.op.nn.avg_pool2d
        window, strides = [int(size) for size in a.pool_size], [int(step) for step in a.strides]
        padding, dilation = [int(pad) for pad in a.padding], [int(step) for step in a.dilation]
        options = {"ceil_mode": bool(a.ceil_mode), "count_include_pad": bool(a.count_include_pad)}
        x = self.tensors.channels_last(tensor)
        return self.builder.emit(pool(x, window, strides, padding, dilation, layout="NHWC", **options))

    def _call_operator(self, step: Operator, arguments: list[Expr], var: Expr) -> Expr:
        batch, channels, height, width = shape_of(var)
        function = prim_func(step, *((shape_of(a), str(a.ty.dtype)) for a in arguments))
        return self.builder.call(
            function, step.name, arguments, (batch, height, width, channels), step.output
        )


def _is_image(tensor: Expr) -> bool:
    return isinstance(tensor.ty, relax.TensorType) and len(shape_of(tensor)) == 4


def _joins_channels(value: Expr) -> bool:
    return value.attrs.axis is not None and int(value.attrs.axis) == 1
