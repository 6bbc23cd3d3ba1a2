"""Quantize: put the numbers of a network on integer grids, in the form other tools exchange.

    conv2d(x, w)  ->  conv2d(dequantize(quantize(x)), dequantize(codes of w))

A layer whose scheme has integers reads quantized inputs; the right operand of a product of two activations
gets a symmetric grid, so that its codes can stand for a weight's. A layer with a dynamic range or a float
input keeps its float input, and of a table only the rows are rounded. A result is quantized too where an
integer layer reads it, directly or through operators that have an integer form (residual addition,
concatenation, pooling, clipping, data movement); otherwise it leaves the accumulator as float. What is made
in float for a depthwise layer alone has a step for each channel (`channel_steps`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersor.error import UserError
from tersor.ir.chains import Chain, activation_limits, find_chains, find_gathers, find_products
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operands, operator, rebind, shape_of
from tersor.ir.recurrent import find_recurrences
from tersor.ir.untyped import relax
from tersor.passes.extract import tensor_names
from tersor.passes.quantization.bias_correction import bias_correction
from tersor.passes.quantization.channel_steps import channel_steps
from tersor.passes.quantization.ranges import Method, affine, ranges, symmetric
from tersor.passes.quantization.recurrent import emit_quantized
from tersor.passes.quantization.weights import dequantize_weight, quantize_weight
from tersor.scheme import Scheme
from tersor.statistics import Statistics, TensorStatistics

# Operators whose result has the codes of their input, only elsewhere.
KEEPS_CODES = (
    "reshape", "permute_dims", "squeeze", "expand_dims", "flatten", "strided_slice", "nn.max_pool2d",
)  # fmt: skip


@dataclass(frozen=True)
class Quantization:
    """How a tensor is quantized: ``real = scale * (code - zero_point)``, codes uint8.

    With `steps`, one for each channel, it is divided by them first: then `scale` is 1.
    """

    scale: float
    zero_point: int
    steps: tuple[float, ...] = ()


def quantize(
    mod: Module,
    schemes: Mapping[str, Scheme],
    statistics: Statistics,
    method: Method = "mse",
    correct_bias: bool = True,
) -> Module:
    """Quantize the layers whose scheme says so; `schemes` is by layer name, a missing one is fp32.

    Raises UserError if the statistics lack a tensor that is to be quantized.
    """
    return _Quantizer(mod, schemes, statistics, method, correct_bias).rewrite()


def grids(
    mod: Module, schemes: Mapping[str, Scheme], statistics: Statistics, method: Method = "mse"
) -> dict[str, Quantization]:
    """Give the grid of every tensor that `quantize` would put on one, by the tensor's name."""
    quantizer = _Quantizer(mod, schemes, statistics, method, True)
    return {quantizer.names[var]: grid for var, grid in quantizer.quantizations.items()}


class _Quantizer:
    def __init__(
        self,
        mod: Module,
        schemes: Mapping[str, Scheme],
        statistics: Statistics,
        method: Method,
        correct_bias: bool,
    ) -> None:
        self.graph = Graph(mod)
        self.names = tensor_names(mod)
        self.statistics = statistics
        self.method: Method = method
        self.correct_bias = correct_bias
        chains = find_chains(self.graph)
        is_rounded = {name for name, scheme in schemes.items() if scheme.quantization is not None}
        self.has_grid = {name for name in is_rounded if schemes[name].input and not schemes[name].dynamic}
        integer = [chain for chain in chains if chain.layer in is_rounded]
        self.chains = {chain.variables[0]: chain for chain in integer}
        self.owner = {var: chain for chain in integer for var in chain.variables}
        self.gathers = {each.result: each for each in find_gathers(self.graph) if each.layer in is_rounded}
        products = find_products(self.graph)
        self.products = {each.result: each for each in products if each.layer in self.has_grid}
        # Inside a float layer's chain nothing is rounded: its bias and activation come first.
        self.float_chains = {var for chain in chains for var in chain.variables} - set(self.owner)
        self.schemes = schemes
        recurrences = find_recurrences(self.graph)
        self.recurrences = {each.variable: each for each in recurrences if each.layer in is_rounded}
        wanted, self.symmetric = self._quantized_tensors()
        self.quantizations = self._assign(wanted)

    def rewrite(self) -> Module:
        """Rebuild the function with every chosen tensor passed through its grid."""
        graph, builder = self.graph, Builder(self.graph)
        values: dict[Expr, Expr] = {var: self._through_grid(builder, var, var) for var in graph.inputs}
        # What is made in float is there unrounded, too, for what reads it as float.
        exact: dict[Expr, Expr] = {var: var for var in graph.inputs}
        for name, weight in self._float_weights():
            values[name] = exact[name] = builder.weight(*weight)
        for var, value in graph.bindings:
            reads_codes = self._reads_codes(var, value)
            made = self._emit(builder, var, value, values if reads_codes else exact)
            values[var] = self._through_grid(builder, var, made)
            exact[var] = values[var] if reads_codes else made
        return builder.finish([exact[output] for output in graph.outputs])

    def _float_weights(self) -> list[tuple[Expr, tuple[str, Array]]]:
        """Give the weights that something reads as they are, and what they are called beside their codes."""
        graph, found = self.graph, []
        readers = {**self.chains, **self.gathers, **self.recurrences}
        rounded = {part.weight for part in (*self.chains.values(), *self.recurrences.values())}
        rounded |= {gather.table for gather in self.gathers.values()}
        for var, value in graph.weights.items():
            if var not in rounded:
                found.append((var, (var.name, value)))
            elif any(user not in readers for user in graph.users(var)):
                found.append((var, (f"{var.name}.fp32", value)))
        return found

    def _emit(self, builder: Builder, var: Expr, value: Expr, values: dict[Expr, Expr]) -> Expr:
        if var in self.chains:
            return self._emit_head(builder, self.chains[var], values)
        if var in self.gathers:
            table = self._emit_weight(builder, self.gathers[var].table, 0)
            return builder.emit(relax.op.take(table, rebind(value.args[1], values), 0, "clip"))
        if var in self.recurrences:
            recurrence = self.recurrences[var]
            weight = self.graph.weights[recurrence.weight]
            return emit_quantized(builder, recurrence, weight, self.schemes[recurrence.layer], values)
        return builder.emit(self._with_corrected_bias(builder, var, value, values), var.name)

    def _reads_codes(self, var: Expr, value: Expr) -> bool:
        """Whether a binding is part of an integer operator, so that its operands are codes."""
        chain = self.owner.get(var)
        if chain is not None and (chain.residual is None or chain.result in self.quantizations):
            return chain.layer in self.has_grid
        if chain is not None:  # its sum with the residual is float; what comes before is not
            return chain.layer in self.has_grid and not _adds(value, chain.residual)
        if var in self.products:
            return True
        is_float = var not in self.quantizations or var in self.float_chains
        return not is_float and has_integer_form(self.graph, value)

    def _quantized_tensors(self) -> tuple[set[Expr], set[Expr]]:
        """Find the tensors that an integer layer reads, directly or through integer operators.

        The second set are those among them whose codes become the right operand of a product.
        """
        wanted = {chain.data for chain in self.chains.values() if chain.layer in self.has_grid}
        wanted.update(operand for each in self.products.values() for operand in (each.left, each.right))
        symmetric = {each.right for each in self.products.values()}
        for var, value in reversed(self.graph.bindings):
            chain = self.owner.get(var)
            if chain is not None:
                if var.same_as(chain.result) and var in wanted and chain.residual is not None:
                    wanted.add(chain.residual)
            elif var in wanted and var not in self.float_chains and has_integer_form(self.graph, value):
                sources = {operand for operand in operands(value) if self.graph.value(operand) is None}
                wanted |= sources
                if var in symmetric and operator(value) in KEEPS_CODES:
                    symmetric |= sources
        return wanted, symmetric

    def _assign(self, wanted: set[Expr]) -> dict[Expr, Quantization]:
        """Give each tensor its grid, in order; what only moves codes keeps the grid of its input."""
        grids: dict[Expr, Quantization] = {}
        for var in self.graph.inputs:
            if var in wanted:
                grids[var] = self._grid(var)
        for var, value in self.graph.bindings:
            if var not in wanted:
                continue
            reader = self._depthwise_reader(var, value)
            if reader is not None:
                grids[var] = self._channel_grid(var, reader)
                continue
            keeps = operator(value) in KEEPS_CODES and var not in self.owner
            grids[var] = grids[operands(value)[0]] if keeps else self._grid(var)
        return grids

    def _depthwise_reader(self, var: Expr, value: Expr) -> Chain | None:
        """Give the depthwise layer that alone reads a tensor which is made in float."""
        readers = self.graph.users(var)  # what the function returns of it is float
        chain = self.chains.get(readers[0]) if len(readers) == 1 else None
        if chain is None or chain.operator != "nn.conv2d" or var in self.owner:
            return None
        if var not in self.float_chains and has_integer_form(self.graph, value):
            return None
        shape, groups = shape_of(var), int(chain.attributes.groups)
        alone = len(self.graph.users(chain.weight)) == 1
        seen = len(self._tensor_statistics(var).channel_minimum)
        depthwise = len(shape) == 4 and 1 < groups == shape[1] == seen
        return chain if alone and depthwise and var.same_as(chain.data) else None

    def _channel_grid(self, var: Expr, chain: Chain) -> Quantization:
        # All values seen, by any method: one channel's outliers cost no other channel its codes.
        statistics = self._tensor_statistics(var)
        lows, highs = np.minimum(statistics.channel_minimum, 0.0), np.maximum(statistics.channel_maximum, 0.0)
        squares = np.square(self.graph.weights[chain.weight].astype(np.float64))
        steps, zero_point = channel_steps(lows, highs, squares.reshape(len(lows), -1).sum(axis=1))
        return Quantization(1.0, zero_point, tuple(map(float, steps)))

    def _grid(self, var: Expr) -> Quantization:
        low, high = ranges(self._tensor_statistics(var), self.method)
        scale, zero_point = symmetric(low, high) if var in self.symmetric else affine(low, high)
        return Quantization(float(scale), zero_point)

    def _tensor_statistics(self, var: Expr) -> TensorStatistics:
        name = self.names[var]
        if name not in self.statistics.tensors:
            raise UserError(
                f"the calibration statistics lack the tensor {name!r}: calibrate the model this plan is for"
            )
        return self.statistics.tensors[name]

    def _through_grid(self, builder: Builder, var: Expr, value: Expr) -> Expr:
        grid = self.quantizations.get(var)
        if grid is None:
            return value
        if grid.steps:
            inverse = np.float32(1) / np.array(grid.steps, np.float32).reshape(1, -1, 1, 1)
            layer = self.chains[self.graph.users(var)[0]].layer
            value = builder.emit(relax.op.multiply(value, builder.weight(f"{layer}.inverse_steps", inverse)))
        scale, zero_point = constants(grid.scale, grid.zero_point)
        codes = builder.emit(relax.op.quantize(value, scale, zero_point, out_dtype="uint8"))
        return builder.emit(relax.op.dequantize(codes, scale, zero_point))

    def _emit_head(self, builder: Builder, chain: Chain, values: dict[Expr, Expr]) -> Expr:
        """Emit a layer's operator on codes of its weight, with a bias if its mean error needs one."""
        axis = 0 if chain.operator == "nn.conv2d" else 1
        grid = self.quantizations.get(chain.data)
        steps = grid.steps if grid is not None and chain.layer in self.has_grid else ()
        real = self._emit_weight(builder, chain.weight, axis, steps)
        call = relax.Call(chain.call.op, [values[chain.data], real], chain.call.attrs, chain.call.ty_args)
        result = builder.emit(call, chain.variables[0].name)
        if chain.bias is None and self.correct_bias:
            correction = self._correction(chain)
            result = builder.emit(relax.op.add(result, self._bias(builder, chain, correction)))
        return result

    def _emit_weight(self, builder: Builder, var: Expr, axis: int, steps: tuple[float, ...] = ()) -> Expr:
        """Emit the rounded values of a weight, with a scale for each index of `axis`, times `steps`."""
        codes, scale = quantize_weight(self.graph.weights[var], axis)
        if steps:
            scale = scale * np.repeat(np.array(steps, np.float32), len(scale) // len(steps))
        stored = builder.weight(var.name, codes)
        scales = builder.weight(f"{var.name}.scale", scale)
        return builder.emit(relax.op.dequantize(stored, scales, relax.const(0, "int8"), axis))

    def _with_corrected_bias(
        self, builder: Builder, var: Expr, value: Expr, values: dict[Expr, Expr]
    ) -> Expr:
        chain = self.owner.get(var)
        adds_bias = chain is not None and chain.bias is not None and var.same_as(chain.variables[1])
        if chain is None or not adds_bias or not self.correct_bias:
            return rebind(value, values)
        bias = self._bias(builder, chain, chain.bias + self._correction(chain))
        return relax.op.add(values[chain.variables[0]], bias)

    def _bias(self, builder: Builder, chain: Chain, bias: Array) -> Expr:
        shape = (1, -1, 1, 1) if chain.operator == "nn.conv2d" else (-1,)
        return builder.weight(f"{chain.layer}.bias", bias.astype(np.float32).reshape(shape))

    def _correction(self, chain: Chain) -> Array:
        weight = self.graph.weights[chain.weight]
        if chain.operator == "matmul" and len(shape_of(chain.data)) == 4:
            return np.zeros(
                weight.shape[1], np.float32
            )  # statistics take axis 1 of such a tensor as its channels
        axis = 0 if chain.operator == "nn.conv2d" else 1
        rounded = dequantize_weight(*quantize_weight(weight, axis), axis)
        groups = int(chain.attributes.groups) if chain.operator == "nn.conv2d" else 1
        return bias_correction(weight, rounded, self._tensor_statistics(chain.data).mean, groups)


def _adds(value: Expr, residual: Expr) -> bool:
    return any(operand.same_as(residual) for operand in operands(value))


def has_integer_form(graph: Graph, value: Expr) -> bool:
    """Whether an operator outside the layers has an integer form (`tersor.arithmetic`)."""
    tensors = [operand for operand in operands(value) if graph.value(operand) is None]
    if not all(isinstance(t.ty, relax.TensorType) and str(t.ty.dtype) == "float32" for t in tensors):
        return False
    match operator(value):
        case "add":
            return len(tensors) == 2 and shape_of(tensors[0]) == shape_of(tensors[1])
        case "concat":
            return len(tensors) == len(value.args[0].fields)
        case "mean":
            axes = value.attrs.axis
            return len(shape_of(tensors[0])) == 4 and axes is not None and [int(a) for a in axes] == [2, 3]
        case "nn.avg_pool2d":
            return _averages_whole_windows(value.attrs)
        case name if name in KEEPS_CODES:
            return True
        case _:
            return activation_limits(value) is not None


def _averages_whole_windows(attributes: Any) -> bool:
    """Whether every window of a pooling lies inside the image and is contiguous."""
    padded = any(int(pad) for pad in attributes.padding) or bool(attributes.ceil_mode)
    dilated = any(int(step) != 1 for step in attributes.dilation)
    return not padded and not dilated and str(attributes.layout) == "NCHW"


def constants(scale: float, zero_point: int) -> tuple[Any, Any]:
    """Give a grid's scale and zero point as Relax constants."""
    return relax.const(np.float32(scale), "float32"), relax.const(np.uint8(zero_point), "uint8")
