"""Integerize: turn a network on integer grids into integer operators.

    quantize(clip(conv2d(dequantize(x), dequantize(w)) + b))
        ->  requantize(conv2d(pad(x), w) + bias, multiplier)

The zero point of the input is folded into the int32 bias, so the convolution multiplies plain codes. The
PrimFuncs this emits (`tersor.ir.operators`) define the arithmetic, so the module is exact on any target.

A layer with a dynamic range quantizes each row of its float input as it comes; a table keeps its codes, and a
lookup decodes the rows it finds.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tersor.arithmetic import SYMMETRIC_ZERO, quantize_bias
from tersor.ir.chains import (
    Chain,
    Product,
    activation_limits,
    any_weight,
    codes_of_weight,
    find_chains,
    find_gathers,
    find_products,
)
from tersor.ir.graph import Builder, Expr, Graph, Module, operands, operator, pair, rebind, shape_of
from tersor.ir.grid import Grid, grid_below, grid_made, grid_of, most_code
from tersor.ir.operators import (
    Add,
    AveragePool,
    Dequantize,
    GatherRows,
    Operator,
    Quantize,
    QuantizeRows,
    Requantize,
    RequantizeAdd,
    Rescale,
    RescaleAccumulator,
    RowScale,
    prim_func,
)
from tersor.ir.operators import Product as ProductOf
from tersor.ir.untyped import relax
from tersor.passes.quantization.tensors import KEEPS_CODES, has_integer_form


def integerize(mod: Module, dynamic: Collection[str] = ()) -> Module:
    """Replace everything between grids by its integer form; what has none reads dequantized codes.

    `dynamic` names the layers that find the range of each row of their input as it comes.
    """
    return _Integerizer(mod, dynamic).rewrite()


class _Integerizer:
    def __init__(self, mod: Module, dynamic: Collection[str]) -> None:
        self.graph = Graph(mod)
        self.dynamic = dynamic
        self.builder = Builder(self.graph)
        self.values: dict[Expr, Expr] = {var: var for var in self.graph.inputs}
        self.codes: dict[Expr, Expr] = {}  # quantize variable -> codes emitted
        self.real: dict[
            Expr, Expr
        ] = {}  # dequantize variable -> float emitted, where something float reads it
        self.chains = {
            chain.result: chain
            for chain in find_chains(self.graph, partial(codes_of_weight, self.graph))
            if self._is_integer(chain)
        }
        self.products = {
            product.result: product
            for product in find_products(self.graph, partial(any_weight, self.graph))
            if self._grid_below(product.left) and self._grid_below(product.right)
        }
        self.gathers = {
            each.result: each for each in find_gathers(self.graph, partial(codes_of_weight, self.graph))
        }
        self.inside = {var for chain in self.chains.values() for var in chain.interior}

    def rewrite(self) -> Module:
        """Emit each quantize as an integer operator, and what is float as it was."""
        graph = self.graph
        for var, value in graph.bindings:
            if var in self.inside or self._is_read_from_codes(var):
                continue
            if self._is_quantize(value):
                self.codes[var] = self._emit_quantize(var, value)
            elif self._ends_codes(value):
                self.codes[var] = self.codes[value.args[0]]
            elif var in self.chains:
                if self._read_as_float(var) or self.chains[var].layer in self.dynamic:
                    self.values[var] = self._emit_rescaled(self.chains[var])
            elif var in self.products:
                if self._read_as_float(var):
                    self.values[var] = self._emit_product(self.products[var], None)
            elif var in self.gathers:
                self.values[var] = self._emit_gather(self.gathers[var].table, value.args[1])
            elif not self._absorbed(var, value):
                replacements = {operand: self._float(operand) for operand in operands(value)}
                self.values[var] = self.builder.emit(rebind(value, replacements), var.name)
        return self.builder.finish([self._float(output) for output in graph.outputs])

    # Reading the graph

    def _is_read_from_codes(self, var: Expr) -> bool:
        """Whether a tensor is dequantized only where something float reads it."""
        return codes_of_weight(self.graph, var) is not None or self._grid_below(var) is not None

    def _is_integer(self, chain: Chain) -> bool:
        if chain.layer in self.dynamic:
            return True
        if self._grid_below(chain.data) is None:
            return False
        # A result that stays float has its residual added in float, so that may be anything.
        readers = [self.graph.definition(reader) for reader in self.graph.users(chain.result)]
        stays_float = not any(self._is_quantize(reader) for reader in readers)
        return chain.residual is None or stays_float or self._grid_below(chain.residual) is not None

    def _grid_below(self, var: Expr) -> Grid | None:
        """Give the grid of a dequantized activation."""
        return grid_below(self.graph, var)

    def _is_quantize(self, value: Expr | None) -> bool:
        return value is not None and operator(value) == "quantize" and grid_of(self.graph, value) is not None

    def _ends_codes(self, value: Expr) -> bool:
        """Whether a clip is the end of the codes of a grid: what makes them saturates there."""
        return most_code(self.graph, value) is not None and value.args[0] in self.codes

    def _codes_below(self, var: Expr) -> Expr:
        return self.codes[self.graph.definition(var).args[0]]

    def _read_as_float(self, var: Expr) -> bool:
        readers = self.graph.users(var)
        return self.graph.is_output(var) or any(
            not self._is_quantize(self.graph.definition(reader)) for reader in readers
        )

    def _absorbed(self, var: Expr, value: Expr) -> bool:
        """Whether an operator exists only in its integer form, inside the quantize that reads it."""
        reader = self.graph.only_user(var)
        grid = grid_made(self.graph, reader) if reader is not None else None
        if grid is None:
            return False
        return self._integer_form(value, grid) is not None

    # Emitting

    def _float(self, var: Expr) -> Expr:
        """Give the float value of a variable, dequantizing its codes once if it has only those.

        Of codes themselves, which a dequantize reads that is no grid of ours, give the codes.
        """
        if var in self.codes:
            return self.codes[var]
        if var in self.values or not isinstance(var, relax.Var):
            return self.values.get(var, var)
        if var in self.graph.weights:
            return self.builder.weight(var.name, self.graph.weights[var])
        if var not in self.real:
            grid = self._grid_below(var)
            if grid is None:  # a dequantized weight that a float operator reads
                value = self.graph.definition(var)
                replacements = {operand: self._float(operand) for operand in operands(value)}
                self.real[var] = self.builder.emit(rebind(value, replacements))
            else:
                codes = self._codes_below(var)
                self.real[var] = self._call(Dequantize(grid.scale, grid.zero_point), codes)
        return self.real[var]

    def _emit_quantize(self, var: Expr, value: Expr) -> Expr:
        source, grid = value.args[0], grid_made(self.graph, var)
        assert grid is not None
        if source in self.chains and self.chains[source].layer not in self.dynamic:
            return self._emit_chain(self.chains[source], grid)
        if source in self.products:
            return self._emit_product(self.products[source], grid)
        if (found := self._grid_below(source)) is not None:
            return self._on_grid(source, found, grid)
        producer = self.graph.definition(source)
        form = self._integer_form(producer, grid) if producer is not None else None
        if form is not None and self._absorbed(source, producer):
            return form()
        return self._call(Quantize(grid.scale, grid.zero_point, grid.bounds()), self._float(source))

    def _integer_form(self, value: Expr, grid: Grid) -> Callable[[], Expr] | None:
        """Give what emits an operator on codes with its result on `grid`, or None if it has no such form."""
        tensors = [operand for operand in operands(value) if operand not in self.graph.weights]
        below = [self._grid_below(tensor) for tensor in tensors]
        grids = [found for found in below if found is not None]
        if not grids or len(grids) != len(below) or not has_integer_form(self.graph, value):
            return None
        limits = activation_limits(value)
        match operator(value):
            case "add":
                return lambda: self._emit_add(tensors, grids, grid)
            case "concat":
                return lambda: self._emit_concat(value, tensors, grids, grid)
            case "mean":
                return lambda: self._emit_mean(value, tensors[0], grids[0], grid)
            case "nn.avg_pool2d":
                window, stride = pair(value.attrs.pool_size), pair(value.attrs.strides)
                return lambda: self._emit_average(tensors[0], window, stride, grids[0], grid)
            case name if name in KEEPS_CODES and grids[0] == grid:
                return lambda: self.builder.emit(rebind(value, {tensors[0]: self._codes_below(tensors[0])}))
            case _ if limits is not None:
                return lambda: self._emit_rescale(tensors[0], grids[0], grid, grid.bounds(limits))
            case _:
                return None

    def _emit_add(self, tensors: Sequence[Expr], grids: Sequence[Grid], grid: Grid) -> Expr:
        multipliers = [_ratio(each.scale, grid.scale) for each in grids]
        (first, second), (a, b) = grids, tensors
        step = Add(
            multipliers[0],
            first.zero_point,
            multipliers[1],
            second.zero_point,
            grid.zero_point,
            grid.bounds(),
        )
        return self._call(step, self._codes_below(a), self._codes_below(b))

    def _emit_concat(self, value: Expr, tensors: Sequence[Expr], grids: Sequence[Grid], grid: Grid) -> Expr:
        parts = [self._on_grid(tensor, found, grid) for tensor, found in zip(tensors, grids, strict=True)]
        axis = value.attrs.axis
        return self.builder.emit(relax.op.concat(parts, None if axis is None else int(axis)))

    def _emit_average(
        self, tensor: Expr, window: tuple[int, int], stride: tuple[int, int], found: Grid, grid: Grid
    ) -> Expr:
        multiplier = _ratio(found.scale, grid.scale * window[0] * window[1])
        pool = AveragePool(window, stride, multiplier, found.zero_point, grid.zero_point, grid.bounds())
        return self._call(pool, self._codes_below(tensor))

    def _emit_mean(self, value: Expr, tensor: Expr, found: Grid, grid: Grid) -> Expr:
        batch, channels, height, width = shape_of(tensor)
        mean = self._emit_average(tensor, (height, width), (1, 1), found, grid)
        return mean if value.attrs.keepdims else self.builder.emit(relax.op.reshape(mean, (batch, channels)))

    def _on_grid(self, tensor: Expr, found: Grid, grid: Grid) -> Expr:
        """Give the codes of a tensor, which are on the grid `found`, on another one."""
        if found == grid:
            return self._codes_below(tensor)
        return self._emit_rescale(tensor, found, grid, grid.bounds())

    def _emit_rescale(self, tensor: Expr, found: Grid, grid: Grid, bounds: tuple[int, int]) -> Expr:
        step = Rescale(_ratio(found.scale, grid.scale), found.zero_point, grid.zero_point, bounds)
        return self._call(step, self._codes_below(tensor))

    def _emit_chain(self, chain: Chain, grid: Grid) -> Expr:
        """Emit a layer whose result is on a grid."""
        accumulator, scale = self._emit_accumulator(chain, self._codes_below(chain.data))
        multiplier = (scale / np.float64(grid.scale)).astype(np.float32)
        name = self.builder.weight(f"{chain.layer}.multiplier{self._suffix(chain)}", multiplier)
        bounds, axis = grid.bounds(chain.limits), _channel_axis(chain)
        if chain.residual is None:
            return self._call(Requantize(grid.zero_point, bounds, axis), accumulator, name)
        below = self._grid_below(chain.residual)
        assert below is not None
        ratio = _ratio(below.scale, grid.scale)
        step = RequantizeAdd(ratio, below.zero_point, grid.zero_point, bounds, axis)
        return self._call(step, accumulator, name, self._codes_below(chain.residual))

    def _emit_rescaled(self, chain: Chain) -> Expr:
        """Emit a layer whose result leaves the integers; a residual and an activation then are float."""
        if chain.layer in self.dynamic:
            result = self._emit_dynamic(chain)
        else:
            accumulator, scale = self._emit_accumulator(chain, self._codes_below(chain.data))
            result = self._emit_real(chain, accumulator, scale)
        if chain.residual is not None:
            result = self.builder.emit(relax.op.add(result, self._float(chain.residual)))
        low, high = chain.limits
        if low is None and high is None:
            return result
        infinity = float(np.finfo(np.float32).max)
        bounds = (-infinity if low is None else low, infinity if high is None else high)
        return self.builder.emit(relax.op.clip(result, *bounds))

    def _emit_real(self, chain: Chain, accumulator: Expr, scale: np.ndarray) -> Expr:
        scales = self.builder.weight(f"{chain.layer}.rescale{self._suffix(chain)}", scale.astype(np.float32))
        return self._call(RescaleAccumulator(_channel_axis(chain)), accumulator, scales)

    def _emit_dynamic(self, chain: Chain) -> Expr:
        """Emit a dense layer on the rows of its float input, each on its own grid; the bias is float."""
        x = self._float(chain.data)
        step = self._call(RowScale(), x)
        codes = self._call(QuantizeRows(), x, step)
        bare = replace(chain, bias=None)
        accumulator, scale = self._emit_accumulator(bare, codes, Grid(1.0, SYMMETRIC_ZERO))
        result = self.builder.emit(relax.op.multiply(self._emit_real(chain, accumulator, scale), step))
        if chain.bias is None:
            return result
        bias = self.builder.weight(chain.bias_name or f"{chain.layer}.bias", chain.bias)
        return self.builder.emit(relax.op.add(result, bias))

    def _emit_product(self, product: Product, grid: Grid | None) -> Expr:
        """Emit a product of two activations, with its result on `grid` or as float."""
        left, right = self._grid_below(product.left), self._grid_below(product.right)
        assert left is not None
        assert right is not None
        operands = self._codes_below(product.left), self._codes_below(product.right)
        accumulator = self._call(ProductOf(left.zero_point, right.zero_point), *operands)
        shape = shape_of(accumulator)
        scale = np.float64(left.scale) * np.float64(right.scale)
        columns, axis = shape[-1], len(shape) - 1
        if grid is None:
            scales = self.builder.weight(f"{product.layer}.rescale", np.full(columns, scale, np.float32))
            return self._call(RescaleAccumulator(axis), accumulator, scales)
        ratio = np.full(columns, scale / np.float64(grid.scale), np.float32)
        multiplier = self.builder.weight(f"{product.layer}.multiplier", ratio)
        return self._call(Requantize(grid.zero_point, grid.bounds(), axis), accumulator, multiplier)

    def _emit_gather(self, table: Expr, indices: Expr) -> Expr:
        codes, scales = self.graph.definition(table).args[:2]
        stored = [self.builder.weight(each.name, self.graph.weights[each]) for each in (codes, scales)]
        return self._call(GatherRows(), *stored, self._float(indices))

    def _emit_accumulator(self, chain: Chain, x: Expr, grid: Grid | None = None) -> tuple[Expr, np.ndarray]:
        """Emit the int32 accumulator of the codes `x` with its bias.

        Give it and its scale per output channel, float64 [K]; `grid` is that of `x`, by default the graph's.
        """
        value = self.graph.definition(chain.weight)
        stored, scales = value.args[0], self.graph.value(value.args[1])
        assert scales is not None
        codes = self.graph.weights[stored]
        grid = grid or self._grid_below(chain.data)
        assert grid is not None
        scale = np.float64(grid.scale) * scales.astype(np.float64)
        is_conv = chain.operator == "nn.conv2d"
        sums = codes.sum(axis=tuple(range(1, 4)) if is_conv else 0, dtype=np.int64)
        bias = np.zeros(scale.shape) if chain.bias is None else chain.bias
        folded = (quantize_bias(bias, scale) - grid.zero_point * sums).astype(np.int32)
        weight = self.builder.weight(chain.layer, codes)
        shape = (1, -1, 1, 1) if is_conv else (-1,)
        name = f"{chain.layer}.bias{self._suffix(chain)}"
        constant = self.builder.weight(name, folded.reshape(shape))
        product = self._emit_conv2d(chain, x, weight, grid) if is_conv else self._emit_matmul(x, weight)
        return self.builder.emit(relax.op.add(product, constant)), scale

    def _emit_conv2d(self, chain: Chain, x: Expr, weight: Expr, grid: Grid) -> Expr:
        """Pad with the zero point, which stands for zero, then convolve without padding."""
        attributes = chain.attributes
        top, left, bottom, right = (int(pad) for pad in attributes.padding)
        if top or left or bottom or right:
            widths = [0, 0, 0, 0, top, bottom, left, right]
            x = self.builder.emit(relax.op.nn.pad(x, widths, "constant", grid.zero_point))
        return self.builder.emit(
            relax.op.nn.conv2d(
                x,
                weight,
                strides=pair(attributes.strides),
                dilation=pair(attributes.dilation),
                groups=int(attributes.groups),
                out_dtype="int32",
            )
        )

    def _emit_matmul(self, x: Expr, weight: Expr) -> Expr:
        return self.builder.emit(relax.op.matmul(x, weight, out_dtype="int32"))

    def _suffix(self, chain: Chain) -> str:
        """Tell apart the uses of a weight that serves several times."""
        uses = [other for other in self.chains.values() if other.layer == chain.layer]
        return "" if len(uses) == 1 else f".{[use is chain for use in uses].index(True)}"

    def _call(self, step: Operator, *arguments: Expr) -> Expr:
        described = [(shape_of(argument), str(argument.ty.dtype)) for argument in arguments]
        function = prim_func(step, *described)
        shape = [int(extent) for extent in function.params[-1].shape]
        return self.builder.call(function, step.name, arguments, shape, step.output)


def _ratio(numerator: float, denominator: float) -> float:
    return float(np.float32(np.float64(numerator) / np.float64(denominator)))


def _channel_axis(chain: Chain) -> int:
    return 1 if chain.operator == "nn.conv2d" else len(shape_of(chain.variables[0])) - 1
