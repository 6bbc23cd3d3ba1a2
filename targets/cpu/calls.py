"""Calls: layers become calls of their kernels, on packed constants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tersor.ir.graph import Builder, Expr, Graph, Module, function_calls, shape_of
from tersor.ir.operators import call_arguments
from tersor.ir.recurrent import Recurrence, call_cell
from tersor.ir.untyped import relax
from tersor.targets.cpu.chooser import Chooser, nest_of
from tersor.targets.cpu.kernels.choice import Kernel, dense_order
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.kernels.recurrent import (
    RecurrentOrder,
    has_kernel,
    kernel_name,
    recurrent_kernel,
)
from tersor.targets.cpu.layout.halo import Halo, Halos
from tersor.targets.cpu.layout.order import Order
from tersor.targets.cpu.layout.packing import pack_channels
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
        found = (composite.data, composite.residual, composite.result)
        known = self.tensors.halos
        halos = Halos(*(known.get(var, Halo()) if var is not None else Halo() for var in found))
        kernel = replace(kernel, halos=halos)
        out = (kernel.geometry.batch, *kernel.target.shape)
        x = self.tensors.channels_last(composite.data)
        residual = [] if composite.residual is None else [self.tensors.channels_last(composite.residual)]
        weight = self.tensors.weight(composite.layer, kernel.weight_order, composite.weight)
        result = self._call_kernel(kernel, composite, x, weight, residual, out)
        self.tensors.last[composite.result] = result
        self.made[result] = composite.layer

    def emit_dense(self, composite: Composite) -> None:
        """Emit a product with a weight."""
        out = shape_of(composite.result)
        kernel = self.chooser.dense(composite)
        x = self.tensors.channels_first(composite.data)
        residual = [] if composite.residual is None else [self.tensors.channels_first(composite.residual)]
        order = dense_order(kernel.weight_order, *composite.weight.shape)
        weight = self.tensors.weight(composite.layer, order, composite.weight)
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
        function, order = None, Order()
        if has_kernel(self.vectors, cell):
            steps, batch, _ = shape_of(recurrence.gates)
            function = recurrent_kernel(self.vectors, cell, steps, batch)
            order = RecurrentOrder(self.vectors)
        gates, _, *rest = call_arguments(value)
        weight = self.tensors.weight(recurrence.layer, order, self.graph.weights[recurrence.weight])
        others = [self.tensors.channels_first(argument) for argument in (gates, *rest)]
        arguments = [others[0], weight, *others[1:]]
        result = call_cell(self.builder, cell, arguments, function)
        self.tensors.first[recurrence.variable] = result
        if function is not None:
            self.made[result] = recurrence.layer

    def _call_kernel(
        self,
        kernel: Kernel,
        composite: Composite,
        x: Expr,
        weight: Expr,
        residual: list[Expr],
        out: tuple[int, ...],
    ) -> Expr:
        self.kernels[composite.layer] = kernel.name
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
