"""Grids: bring the quantize and dequantize of other tools to the form of ours.

    dequantize(quantize(x, int8))                 ->   dequantize(quantize(x, uint8)), zero points 128 higher
    dequantize(quantize(pad(x, 0)))               ->   pad(dequantize(quantize(x)), 0)
    quantize(relu(x))                             ->   quantize(x)      where no code is below that of zero
    quantize(relu(add(a, b)))                     ->   quantize(relu(dequantize(quantize(add(a, b)))))
    quantize(dequantize(codes))                   ->   codes            on the same grid
    conv2d(max_pool(dequantize(codes)))           ->   conv2d(dequantize(quantize(max_pool(...))))

All of it is exact. Codes that anything but a dequantize reads, and those of 16 bits, stay as they came.
"""

import numpy as np

from tersor.arithmetic import UINT8
from tersor.ir.chains import activation_limits
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operands, operator, rebind
from tersor.ir.grid import Grid
from tersor.ir.untyped import relax
from tersor.passes.quantization.quantize import constants
from tersor.passes.quantization.tensors import KEEPS_CODES, has_integer_form

SHIFT = 128  # from int8 codes to uint8 codes


def normalize_grids(mod: Module) -> Module:
    """Rewrite all activations of a canonical module that came quantized; the result is not canonical."""
    return _Normalizer(mod).rewrite()


class _Normalizer:
    def __init__(self, mod: Module) -> None:
        self.graph = Graph(mod)
        self.builder = Builder(self.graph)
        self.values: dict[Expr, Expr] = {var: var for var in self.graph.inputs}
        self.codes: dict[Expr, Expr] = {}  # a tensor on a grid -> its codes
        self.grids: dict[Expr, Grid] = {}  # a tensor on a grid -> that
        self.pads: dict[Expr, list[Expr]] = {}  # a quantize -> the pads that go behind its dequantize

    def rewrite(self) -> Module:
        """Emit every binding anew."""
        graph = self.graph
        for var, value in graph.weights.items():
            self.values[var] = self.builder.weight(var.name, value)
        for var, value in graph.bindings:
            if operator(value) == "quantize" and self._only_dequantized(var):
                self.values[var] = self._quantize(var, value)
            elif operator(value) == "dequantize" and self._only_dequantized(value.args[0]):
                self._dequantize(var, value)
            else:
                self.values[var] = self.builder.emit(rebind(value, self.values), var.name)
                self._keep_grid(var, value)
        return self.builder.finish([self.values[output] for output in graph.outputs])

    def _only_dequantized(self, var: Expr) -> bool:
        """Whether codes of 8 bits are read by nothing but dequantizes, so that their grid may move."""
        value = self.graph.definition(var)
        if value is None or operator(value) != "quantize" or self.graph.is_output(var):
            return False
        readers = [self.graph.definition(user) for user in self.graph.users(var)]
        known = all(
            self.graph.value(argument) is not None
            for call in (value, *readers)
            for argument in call.args[1:3]
        )
        return (
            known
            and str(var.ty.dtype) in ("int8", "uint8")
            and all(operator(reader) == "dequantize" for reader in readers)
        )

    def _quantize(self, var: Expr, value: Expr) -> Expr:
        scale, zero_point = self._parameters(value, str(var.ty.dtype))
        source, self.pads[var] = self._source(var, value, _grid(scale, zero_point))
        if source in self.grids and self.grids[source] == _grid(scale, zero_point):
            return self.codes[source]
        axis, real = int(value.attrs.axis), self.values[source]
        if self._joins_grids(source):
            # Rounding before the activation is exact, too, and lets what it follows stay integer.
            activation = self.graph.definition(source)
            inner = self._emit_quantize(self.values[activation.args[0]], scale, zero_point, axis)
            inner = self.builder.emit(relax.op.dequantize(inner, *constants(scale, zero_point), axis=axis))
            real = self.builder.emit(rebind(activation, {activation.args[0]: inner}))
        return self._emit_quantize(real, scale, zero_point, axis)

    def _emit_quantize(self, real: Expr, scale: Array, zero_point: Array, axis: int) -> Expr:
        step = relax.op.quantize(real, *constants(scale, zero_point), axis=axis, out_dtype="uint8")
        return self.builder.emit(step)

    def _joins_grids(self, var: Expr) -> bool:
        """Whether an activation follows an operator that has an integer form, as a sum of two grids has."""
        value = self.graph.definition(var)
        if value is None or activation_limits(value) is None or self.graph.only_user(var) is None:
            return False
        producer = self.graph.definition(value.args[0])
        if producer is None or self.graph.only_user(value.args[0]) is None:
            return False
        tensors = [operand for operand in operands(producer) if self.graph.value(operand) is None]
        return has_integer_form(self.graph, producer) and all(tensor in self.grids for tensor in tensors)

    def _source(self, var: Expr, value: Expr, grid: Grid | None) -> tuple[Expr, list[Expr]]:
        """Look through pads with zeros, and activations that do what the ends of the codes do anyway."""
        source, pads = value.args[0], []
        while self.graph.only_user(source) is not None:
            inner = self.graph.definition(source)
            if _pads_zeros(inner) and len(self.graph.users(var)) == 1:
                pads.append(inner)
            elif grid is None or not _saturates_alike(inner, grid):
                break
            source = inner.args[0]
        return source, pads

    def _dequantize(self, var: Expr, value: Expr) -> None:
        quantize = value.args[0]
        scale, zero_point = self._parameters(value, str(quantize.ty.dtype))
        codes, axis = self.values[quantize], int(value.attrs.axis)
        result = self.builder.emit(relax.op.dequantize(codes, *constants(scale, zero_point), axis=axis))
        for pad in reversed(self.pads[quantize]):
            result = self.builder.emit(rebind(pad, {pad.args[0]: result}))
        self.values[var] = result
        grid = _grid(scale, zero_point)
        if grid is not None and not self.pads[quantize]:
            self.codes[var], self.grids[var] = codes, grid

    def _keep_grid(self, var: Expr, value: Expr) -> None:
        """Say of what only moves codes that its result is on their grid."""
        if operator(value) not in KEEPS_CODES or value.args[0] not in self.grids:
            return
        grid = self.grids[value.args[0]]
        scale, zero_point = constants(grid.scale, grid.zero_point)
        codes = self.builder.emit(relax.op.quantize(self.values[var], scale, zero_point, out_dtype="uint8"))
        self.values[var] = self.builder.emit(relax.op.dequantize(codes, scale, zero_point))
        self.codes[var], self.grids[var] = codes, grid

    def _parameters(self, value: Expr, dtype: str) -> tuple[Array, Array]:
        """Give scales and zero points as for uint8 codes, scalars where all channels have the same."""
        scale, zero_point = (self.graph.value(argument) for argument in value.args[1:3])
        assert scale is not None
        assert zero_point is not None
        zero_point = zero_point.astype(np.int64) + (SHIFT if dtype == "int8" else 0)
        same = (scale == scale.ravel()[0]).all() and (zero_point == zero_point.ravel()[0]).all()
        if same:
            scale, zero_point = scale.ravel()[0], zero_point.ravel()[0]
        return np.asarray(scale, np.float32), np.asarray(zero_point, np.uint8)


def _grid(scale: Array, zero_point: Array) -> Grid | None:
    return Grid(float(scale), int(zero_point)) if scale.ndim == zero_point.ndim == 0 else None


def _pads_zeros(value: Expr) -> bool:
    """Whether a pad adds zeros, which every grid has, beside the channels."""
    if operator(value) != "nn.pad" or str(value.attrs.pad_mode) != "constant":
        return False
    return float(value.attrs.pad_value) == 0 and not any(int(width) for width in value.attrs.pad_width[:4])


def _saturates_alike(value: Expr, grid: Grid) -> bool:
    limits = activation_limits(value) if value is not None else None
    return limits is not None and grid.bounds(limits) == UINT8
