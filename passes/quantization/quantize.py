"""Quantize: put the numbers of a network on integer grids, in the form other tools exchange.

    conv2d(x, w)  ->  conv2d(dequantize(quantize(x)), dequantize(codes of w))
                  ->  conv2d(dequantize(clip(quantize(x), 0, 15)), dequantize(codes of w))      of 4 bits

A layer whose scheme has integers reads quantized inputs; the right operand of a product of two activations
gets a symmetric grid, so that its codes can stand for a weight's. A layer with a dynamic range or a float
input keeps its float input, and of a table only the rows are rounded. A result is quantized too where an
integer layer reads it, directly or through operators that have an integer form (residual addition,
concatenation, pooling, clipping, data movement); otherwise it leaves the accumulator as float. `tensors` says
of how many bits. What is made in float for layers of 8 bits alone may have a step for each channel
(`channel_steps`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersor.arithmetic import UINT8
from tersor.formats.encoded import Encoded
from tersor.ir.chains import Chain
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operands, rebind, shape_of
from tersor.ir.untyped import relax
from tersor.passes.extract import tensor_names
from tersor.passes.quantization.channel_steps import by_input, channel_steps, times_steps
from tersor.passes.quantization.correction import correction_of, statistics_of
from tersor.passes.quantization.migration import Channels, migration
from tersor.passes.quantization.ranges import Method, affine, ranges, symmetric
from tersor.passes.quantization.recurrent import emit_quantized
from tersor.passes.quantization.tensors import MOST_BITS, Tensors, has_integer_form
from tersor.passes.quantization.weights import Weights
from tersor.scheme import Scheme
from tersor.statistics import Statistics, TensorStatistics


@dataclass(frozen=True)
class Quantization:
    """How a tensor is quantized: ``real = scale * (code - zero_point)``, codes 0 to `most` as uint8.

    With `steps`, one for each channel, it is divided by them first, and what weights it meets are multiplied.
    """

    scale: float
    zero_point: int
    steps: tuple[float, ...] = ()
    most: int = UINT8[1]


def quantize(
    mod: Module,
    schemes: Mapping[str, Scheme],
    statistics: Statistics,
    method: Method = "mse",
    correct_bias: bool = True,
    weights: Weights | None = None,
) -> Module:
    """Quantize the layers whose scheme says so; `schemes` is by layer name, a missing one is fp32.

    `weights` rounds the weights, by default to the nearest numbers, and then has them as they are stored.
    Raises UserError if the statistics lack a tensor that is to be quantized.
    """
    return _Quantizer(mod, schemes, statistics, method, correct_bias, weights or Weights()).rewrite()


def grids(
    mod: Module, schemes: Mapping[str, Scheme], statistics: Statistics, method: Method = "mse"
) -> dict[str, Quantization]:
    """Give the grid of every tensor that `quantize` would put on one, by the tensor's name."""
    quantizer = _Quantizer(mod, schemes, statistics, method, True, Weights())
    return {quantizer.names[var]: grid for var, grid in quantizer.quantizations.items()}


def read_grids(
    mod: Module, schemes: Mapping[str, Scheme], statistics: Statistics, method: Method = "mse"
) -> dict[tuple[Expr, Expr], Quantization]:
    """Give the grid on which `quantize` would have each tensor where it is read.

    By the variable whose expression reads, of an output by itself, and the tensor; what is read as float is
    not there.
    """
    return _Quantizer(mod, schemes, statistics, method, True, Weights()).read()


class _Quantizer:
    def __init__(
        self,
        mod: Module,
        schemes: Mapping[str, Scheme],
        statistics: Statistics,
        method: Method,
        correct_bias: bool,
        weights: Weights,
    ) -> None:
        self.graph = Graph(mod)
        self.weights = weights
        self.names = tensor_names(mod)
        self.statistics = statistics
        self.method: Method = method
        self.correct_bias = correct_bias
        self.tensors = Tensors(self.graph, schemes)
        self.schemes = self.tensors.schemes
        self.chains, self.owner = self.tensors.chains, self.tensors.owner
        self.quantizations = self._assign()

    def read(self) -> dict[tuple[Expr, Expr], Quantization]:
        """Give the grids of what is read, by reader and tensor."""
        graph = self.graph
        from_codes = {var for var, value in graph.bindings if self.tensors.reads_codes(var, value)}
        reads = [(var, tensor) for var, value in graph.bindings for tensor in operands(value)]
        return {
            (reader, tensor): self.quantizations[tensor]
            for reader, tensor in (*reads, *((output, output) for output in graph.outputs))
            if tensor in self.quantizations
            and (tensor in from_codes or (reader in from_codes and reader is not tensor))
        }

    def rewrite(self) -> Module:
        """Rebuild the function with every chosen tensor passed through its grid."""
        graph, builder = self.graph, Builder(self.graph)
        values: dict[Expr, Expr] = {var: self._through_grid(builder, var, var) for var in graph.inputs}
        # What is made in float is there unrounded, too, for what reads it as float.
        exact: dict[Expr, Expr] = {var: var for var in graph.inputs}
        for name, weight in self._float_weights():
            values[name] = exact[name] = builder.weight(*weight)
        for var, value in graph.bindings:
            reads_codes = self.tensors.reads_codes(var, value)
            made = self._emit(builder, var, value, values if reads_codes else exact)
            values[var] = self._through_grid(builder, var, made)
            exact[var] = values[var] if reads_codes else made
        return builder.finish([exact[output] for output in graph.outputs])

    def _float_weights(self) -> list[tuple[Expr, tuple[str, Array]]]:
        """Give the weights that something reads as they are, and what they are called beside their codes."""
        graph, found = self.graph, []
        readers = {**self.chains, **self.tensors.gathers, **self.tensors.recurrences}
        rounded = {part.weight for part in (*self.chains.values(), *self.tensors.recurrences.values())}
        rounded |= {gather.table for gather in self.tensors.gathers.values()}
        for var, value in graph.weights.items():
            if var not in rounded:
                found.append((var, (var.name, value)))
            elif any(user not in readers for user in graph.users(var)):
                found.append((var, (f"{var.name}.fp32", value)))
        return found

    def _emit(self, builder: Builder, var: Expr, value: Expr, values: dict[Expr, Expr]) -> Expr:
        if var in self.chains:
            return self._emit_head(builder, self.chains[var], values)
        if var in self.tensors.gathers:
            gather = self.tensors.gathers[var]
            rounded = self._rounded(gather.layer, gather.table, 0, scales_rows=True)
            table = self._emit_weight(builder, gather.table, rounded)
            return builder.emit(relax.op.take(table, rebind(value.args[1], values), 0, "clip"))
        if var in self.tensors.recurrences:
            recurrence = self.tensors.recurrences[var]
            rounded = self._rounded(recurrence.layer, recurrence.weight, 1, scales_rows=True)
            return emit_quantized(builder, recurrence, rounded, self.schemes[recurrence.layer], values)
        return builder.emit(self._with_corrected_bias(builder, var, value, values), var.name)

    def _assign(self) -> dict[Expr, Quantization]:
        """Give each tensor its grid, in order; what only moves codes keeps the grid of its input."""
        grids: dict[Expr, Quantization] = {}
        for var in self.graph.inputs:
            if var in self.tensors.wanted:
                grids[var] = self._grid(var)
        for var, value in self.graph.bindings:
            if var not in self.tensors.wanted:
                continue
            readers = self._layers_of_float(var)
            keeps = self.tensors.keeps_codes(var)
            if readers:
                grids[var] = self._channel_grid(var, readers)
            else:
                grids[var] = grids[operands(value)[0]] if keeps else self._grid(var)
        return grids

    def _layers_of_float(self, var: Expr) -> list[Chain]:
        """Give the layers that alone read the codes of a tensor which is made in float."""
        if not self.tensors.made_in_float(var) or self.tensors.widths[var].bits < MOST_BITS:
            return []
        readers = list(dict.fromkeys(self.graph.users(var)))
        chains = [self.chains[each] for each in readers if each in self.chains]
        others = [each for each in readers if each not in self.chains and self._may_read_codes(each)]
        channels = shape_of(var)[1 if len(shape_of(var)) == 4 else -1]
        seen = len(self._tensor_statistics(var).channel_minimum)
        fits = all(self._takes_channels(var, chain) for chain in chains)
        return chains if fits and not others and channels == seen else []

    def _takes_channels(self, var: Expr, chain: Chain) -> bool:
        """Whether steps for each channel of `var` may go into the weight of a layer."""
        # Of a dense layer on images, statistics take the first axis behind the batch for the channels.
        ranks = (4,) if chain.operator == "nn.conv2d" else (2, 3)
        alone = len(self.graph.users(chain.weight)) == 1 and var.same_as(chain.data)
        return alone and chain.layer in self.tensors.has_grid and len(shape_of(var)) in ranks

    def _may_read_codes(self, var: Expr) -> bool:
        if var in self.owner:
            return self.owner[var].result in self.tensors.wanted
        return var in self.tensors.products or (
            var in self.tensors.wanted and has_integer_form(self.graph, self.graph.definition(var))
        )

    def _channel_grid(self, var: Expr, readers: list[Chain]) -> Quantization:
        # All values seen, by any method: one channel's outliers cost no other channel its codes.
        found = self._tensor_statistics(var)
        lows, highs = np.minimum(found.channel_minimum, 0.0), np.maximum(found.channel_maximum, 0.0)
        if is_depthwise(readers[0]):
            if len(readers) > 1:
                return self._grid(var)
            squares = np.square(self.graph.weights[readers[0].weight].astype(np.float64))
            steps, zero_point = channel_steps(lows, highs, squares.reshape(len(lows), -1).sum(axis=1))
            return Quantization(1.0, zero_point, tuple(map(float, steps)))
        if any(chain.operator == "nn.conv2d" and int(chain.attributes.groups) > 1 for chain in readers):
            return self._grid(var)
        weights = [by_input(self.graph.weights[chain.weight]) for chain in readers]
        channels = Channels(lows, highs, np.maximum(found.second_moment - np.square(found.mean), 0.0))
        factors = migration(channels, weights, ranges(found, self.method))
        if factors is None:
            return self._grid(var)
        scale, zero_point = affine(float((lows / factors).min()), float((highs / factors).max()))
        return Quantization(float(scale), zero_point, tuple(map(float, factors)))

    def _grid(self, var: Expr) -> Quantization:
        bits = self.tensors.widths[var].bits
        low, high = ranges(self._tensor_statistics(var), self.method, bits)
        is_right = var in self.tensors.symmetric  # of a product, so that it has 8 bits
        scale, zero_point = symmetric(low, high) if is_right else affine(low, high, bits)
        return Quantization(float(scale), zero_point, most=2**bits - 1)

    def _tensor_statistics(self, var: Expr) -> TensorStatistics:
        return statistics_of(self.statistics, self.names[var])

    def _through_grid(self, builder: Builder, var: Expr, value: Expr) -> Expr:
        grid = self.quantizations.get(var)
        if grid is None:
            return value
        if grid.steps:
            inverse = np.float32(1) / np.array(grid.steps, np.float32)
            inverse = inverse.reshape(1, -1, 1, 1) if len(shape_of(var)) == 4 else inverse
            layer = next(self.chains[user].layer for user in self.graph.users(var) if user in self.chains)
            value = builder.emit(relax.op.multiply(value, builder.weight(f"{layer}.inverse_steps", inverse)))
        scale, zero_point = constants(grid.scale, grid.zero_point)
        codes = builder.emit(relax.op.quantize(value, scale, zero_point, out_dtype="uint8"))
        if grid.most < UINT8[1]:
            codes = builder.emit(relax.op.clip(codes, 0, grid.most))
        return builder.emit(relax.op.dequantize(codes, scale, zero_point))

    def _emit_head(self, builder: Builder, chain: Chain, values: dict[Expr, Expr]) -> Expr:
        """Emit a layer's operator on codes of its weight, with a bias if its mean error needs one."""
        real = self._emit_weight(builder, chain.weight, self._rounded_chain(chain))
        call = relax.Call(chain.call.op, [values[chain.data], real], chain.call.attrs, chain.call.ty_args)
        result = builder.emit(call, chain.variables[0].name)
        if chain.bias is None and self.correct_bias:
            correction = self._correction(chain)
            result = builder.emit(relax.op.add(result, self._bias(builder, chain, correction)))
        return result

    def _steps(self, chain: Chain) -> tuple[float, ...]:
        grid = self.quantizations.get(chain.data)
        return grid.steps if grid is not None and chain.layer in self.tensors.has_grid else ()

    def _rounded_chain(self, chain: Chain) -> Encoded:
        axis = 0 if chain.operator == "nn.conv2d" else 1
        return self._rounded(chain.layer, chain.weight, axis, self._steps(chain))

    def _rounded(
        self, layer: str, weight: Expr, axis: int, steps: tuple[float, ...] = (), scales_rows: bool = False
    ) -> Encoded:
        value, scheme = self.graph.weights[weight], self.schemes[layer]
        return self.weights.round(layer, value, axis, scheme, steps, scales_rows)

    def _emit_weight(self, builder: Builder, var: Expr, rounded: Encoded) -> Expr:
        """Emit what a weight was rounded to: its codes times their scales, or plain float32."""
        stored = builder.weight(var.name, rounded.decode())
        if rounded.scale is None:
            return stored
        scales = builder.weight(f"{var.name}.scale", rounded.scale)
        return builder.emit(relax.op.dequantize(stored, scales, relax.const(0, "int8"), rounded.axis))

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
        steps = self._steps(chain)
        rounded = times_steps(self._rounded_chain(chain).numbers(), tuple(1 / step for step in steps))
        weight, name = self.graph.weights[chain.weight], self.names[chain.data]
        return correction_of(chain, weight, rounded, self.statistics, name)


def is_depthwise(chain: Chain) -> bool:
    """Whether each group of a convolution reads a single channel."""
    return chain.operator == "nn.conv2d" and 1 < int(chain.attributes.groups) == shape_of(chain.data)[1]


def constants(scale: float | Array, zero_point: int | Array) -> tuple[Any, Any]:
    """Give a grid's scale and zero point, one or one for each channel, as Relax constants."""
    return relax.const(np.asarray(scale, np.float32)), relax.const(np.asarray(zero_point, np.uint8))
