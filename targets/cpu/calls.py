"""Calls: layers become calls of their kernels, on packed constants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tersor.ir.graph import Builder, Expr, Graph, Module, function_calls, operands, rebind, shape_of
from tersor.ir.operators import call_arguments
from tersor.ir.recurrent import Recurrence, call_cell
from tersor.ir.untyped import relax
from tersor.targets.cpu.chooser import Chooser, nest_of
from tersor.targets.cpu.kernels.choice import Kernel, dense_weight
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.kernels.recurrent import (
    has_kernel,
    kernel_name,
    pack_recurrent_weight,
    recurrent_kernel,
)
from tersor.targets.cpu.layout.halo import Halo, Halos
from tersor.targets.cpu.layout.packing import pack_channels, packing_function
from tersor.targets.cpu.mapping.nest import Nest
from tersor.targets.cpu.mapping.tile_nest import TileNest
from tersor.targets.cpu.partition import Composite, ProductComposite
from tersor.targets.cpu.tensors import Tensors


@dataclass(frozen=True)
class KernelCall:
    """A use of a layer: the function that is its kernel, from which dtype of activations to which."""

    layer: str
    function: str
    reads: str
    gives: str


@dataclass(frozen=True)
class Use:
    """One kernel of a layer, the loops that its tiling is one of, and the shapes of operand and result."""

    layer: str
    kernel: Kernel | ProductKernel
    nest: Nest | TileNest
    in_shape: tuple[int, ...] = ()
    out_shape: tuple[int, ...] = ()


class Calls:
    """Emits the layers, and keeps what was emitted: the kernel's name of each layer, and every use."""

    def __init__(self, graph: Graph, builder: Builder, tensors: Tensors, chooser: Chooser) -> None:
        self.graph = graph
        self.builder = builder
        self.tensors = tensors
        self.chooser = chooser
        self.vectors = chooser.isa.vector_unit  # of all kernels but those that choose_kernel gives
        self.kernels: dict[str, str] = {}
        self.made: dict[Expr, str] = {}  # the layer of each kernel's result
        self.uses: list[Use] = []

    def emit_convolution(self, composite: Composite, kernel: Kernel) -> None:
        """Emit a convolution, on images with the halos that were chosen for them."""
        assert composite.weight is not None
        found = (composite.data, composite.residual, composite.result)
        known = self.tensors.halos
        halos = Halos(*(known.get(var, Halo()) if var is not None else Halo() for var in found))
        kernel = replace(kernel, halos=halos)
        out = (kernel.geometry.batch, *kernel.target.shape)
        x = self.tensors.channels_last(composite.data)
        residual = [] if composite.residual is None else [self.tensors.channels_last(composite.residual)]
        weight = self.builder.weight(composite.layer, kernel.pack_weight(composite.weight))
        result = self._call_kernel(kernel, composite, x, weight, residual, out)
        self.tensors.last[composite.result] = result
        self.made[result] = composite.layer

    def emit_dense(self, composite: Composite) -> None:
        """Emit a product with a weight, which may be decoded at run time."""
        out = shape_of(composite.result)
        kernel = self.chooser.dense(composite)
        x = self.tensors.channels_first(composite.data)
        residual = [] if composite.residual is None else [self.tensors.channels_first(composite.residual)]
        if composite.weight is not None:
            packed = kernel.pack_weight(dense_weight(composite.weight))
            weight = self.builder.weight(composite.layer, packed)
        else:
            weight = self._emit_decoded(kernel, composite)
        result = self._call_kernel(kernel, composite, x, weight, residual, out)
        self.tensors.first[composite.result] = result
        self.made[result] = composite.layer

    def emit_product(self, composite: ProductComposite) -> None:
        """Emit a product of two activations."""
        kernel = self.chooser.product(composite)
        self.kernels[composite.layer] = kernel.name
        self.uses.append(Use(composite.layer, kernel, kernel.nest))
        arguments = [self.tensors.channels_first(operand) for operand in composite.operands]
        if composite.multiplier is not None:
            packed = pack_channels(self.vectors, kernel.geometry, composite.multiplier)
            arguments.append(self.builder.weight(f"{composite.layer}|multiplier", packed))
        shape, dtype = shape_of(composite.result), composite.epilogue.output
        result = self.builder.call(kernel.prim_func(), "product", arguments, shape, dtype)
        self.tensors.first[composite.result] = result
        self.made[result] = composite.layer

    def emit_recurrence(self, recurrence: Recurrence, value: Expr) -> None:
        """Emit the loop of an LSTM or GRU; a cell without a kernel runs as its definition says."""
        cell = recurrence.cell
        self.kernels[recurrence.layer] = kernel_name(self.vectors, cell)
        arguments = [self.tensors.channels_first(argument) for argument in call_arguments(value)]
        function = None
        if has_kernel(self.vectors, cell):
            steps, batch, _ = shape_of(recurrence.gates)
            function = recurrent_kernel(self.vectors, cell, steps, batch)
            packed = pack_recurrent_weight(self.vectors, self.graph.weights[recurrence.weight])
            arguments[1] = self.builder.weight(recurrence.layer, packed)
        result = call_cell(self.builder, cell, arguments, function)
        self.tensors.first[recurrence.variable] = result
        if function is not None:
            self.made[result] = recurrence.layer

    def _emit_decoded(self, kernel: Kernel, composite: Composite) -> Expr:
        """Decode a stored weight and bring it to the kernel's layout, at run time."""
        found = operands(composite.encoded)
        replacements = {operand: self.tensors.channels_first(operand) for operand in found}
        dense = self.builder.emit(rebind(composite.encoded, replacements))
        channels, outputs = shape_of(dense)
        function = packing_function(kernel.isa, kernel.tiling.vectors, channels, outputs)
        size = int(function.params[-1].shape[0])
        return self.builder.call(function, "pack_weight", [dense], (size,), "int8")

    def _call_kernel(
        self,
        kernel: Kernel,
        composite: Composite,
        x: Expr,
        weight: Expr,
        residual: list[Expr],
        out: tuple[int, ...],
    ) -> Expr:
        decoding = "" if composite.weight is not None else "decode + "
        self.kernels[composite.layer] = decoding + kernel.name
        use = f"{composite.layer}|{composite.result.name}"
        constants = [self.builder.weight(f"{use}.bias", kernel.pack_channels(composite.bias))]
        if composite.multiplier is not None:
            packed = kernel.pack_channels(composite.multiplier)
            constants.append(self.builder.weight(f"{use}.multiplier", packed))
        self.uses.append(Use(composite.layer, kernel, nest_of(kernel, composite), shape_of(x), out))
        function = kernel.prim_func(shape_of(x), out)
        name = kernel.name.replace(" ", "_").replace("-", "_")
        arguments = [x, weight, *constants, *residual]
        return self.builder.call(function, name, arguments, out, composite.epilogue.output)


def kernel_calls(mod: Module, made: Mapping[Expr, str]) -> Iterator[KernelCall]:
    """Give the calls whose results are in `made`, which has their layers."""
    for var, value in function_calls(mod, "main"):
        if var in made:
            given = var.ty.fields[0] if isinstance(var.ty, relax.TupleType) else var.ty
            reads = value.args[1].fields[0].ty
            yield KernelCall(made[var], value.args[0].name_hint, str(reads.dtype), str(given.dtype))
