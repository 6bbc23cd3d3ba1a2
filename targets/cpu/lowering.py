"""PlanLayouts and Lower: composites become kernels on channels-last tensors, packed once at the edges.

Kernels read and write NHWC. Every tensor of rank 4 is kept in the layout in which it was made, and is brought
to the other one only where something needs it there; operators that do not care follow their operand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tersor.ir.graph import (
    Builder,
    Expr,
    Graph,
    Module,
    function_calls,
    operands,
    operator,
    rebind,
    shape_of,
)
from tersor.ir.operators import (
    Add,
    AveragePool,
    Dequantize,
    Operator,
    Quantize,
    Rescale,
    call_arguments,
    placeholder,
    prim_func,
    read_operator,
)
from tersor.ir.recurrent import Recurrence, call_cell, find_recurrences
from tersor.ir.untyped import relax, te, tirx
from tersor.mapping import Mapping as LoopMapping
from tersor.targets.cpu.fusion import fuse_rows
from tersor.targets.cpu.halo_plan import plan_halos
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.choice import (
    Kernel,
    Packing,
    choose_kernel,
    conv_geometry,
    dense_geometry,
    dense_weight,
)
from tersor.targets.cpu.kernels.interleave import can_interleave, interleave
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.kernels.recurrent import (
    has_kernel,
    kernel_name,
    pack_recurrent_weight,
    recurrent_kernel,
)
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.halo import Halo, Halos
from tersor.targets.cpu.layout.packing import pack_channels
from tersor.targets.cpu.mapping.nest import CONVOLUTION, DENSE, Nest
from tersor.targets.cpu.mapping.planned import PlannedMappings
from tersor.targets.cpu.mapping.tile_nest import TileNest
from tersor.targets.cpu.partition import (
    Composite,
    ProductComposite,
    is_convolution_input,
    partition,
    partition_products,
)

ELEMENTWISE = (
    "nn.relu", "nn.relu6", "clip", "sigmoid", "tanh", "exp", "add", "multiply", "subtract", "divide",
    "maximum", "minimum", "nn.silu", "nn.gelu", "nn.leakyrelu",
)  # fmt: skip


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


@dataclass(frozen=True)
class Lowered:
    """A module of kernels, the name of the kernel that each layer got, and how its weight is packed.

    `calls` are the layers' kernels in the order in which they run.
    """

    mod: Module
    kernels: dict[str, str] = field(default_factory=dict)
    packing: dict[str, Packing] = field(default_factory=dict)
    mappings: PlannedMappings = field(default_factory=lambda: PlannedMappings({}))  # and which of them ran
    calls: tuple[KernelCall, ...] = ()
    uses: tuple[Use, ...] = ()


def lower(
    mod: Module,
    isa: Isa,
    cores: int,
    packing: Mapping[str, Packing] | None = None,
    mappings: Mapping[str, Sequence[LoopMapping]] | None = None,
) -> Lowered:
    """Swap kernels in for all composites and plan the layouts around them.

    Layers in `packing` get their weights packed so, as in another module that they are to share them with;
    those in `mappings` run in the first of theirs that covers them (see `planned`).
    """
    lowered = _Lowering(mod, isa, cores, packing or {}, PlannedMappings(mappings or {})).rewrite()
    return replace(lowered, mod=fuse_rows(lowered.mod, isa))


class _Lowering:
    def __init__(
        self,
        mod: Module,
        isa: Isa,
        cores: int,
        packing: Mapping[str, Packing],
        mappings: PlannedMappings,
    ) -> None:
        self.graph = Graph(mod)
        self.builder = Builder(self.graph)
        self.isa = isa
        self.vectors = isa.vector_unit  # of all kernels but those that choose_kernel gives
        self.cores = cores
        self.composites = partition(self.graph)
        self.products = partition_products(self.graph)
        self.recurrences = {each.variable: each for each in find_recurrences(self.graph)}
        found = [*self.composites.values(), *self.products.values()]
        self.inside = {var for composite in found for var in composite.interior}
        self.first: dict[Expr, Expr] = {var: var for var in self.graph.inputs}  # channels first, or any rank
        self.last: dict[Expr, Expr] = {}  # channels last
        self.kernels: dict[str, str] = {}
        self.made: dict[Expr, str] = {}  # the layer of each kernel's result
        self.packing = dict(packing)
        self.mappings = mappings
        self.uses: list[Use] = []
        self.convolutions = {
            var: self._choose_convolution(composite)
            for var, composite in self.composites.items()
            if composite.operator == "nn.conv2d"
        }
        self.halos = plan_halos(self.graph, self.composites, self.convolutions)

    def rewrite(self) -> Lowered:
        """Emit every binding in its layout."""
        for var, value in self.graph.bindings:
            if var in self.inside or self._is_decode(value):
                continue
            composite = self.composites.get(var)
            if composite is not None:
                self._emit_composite(composite)
            elif var in self.products:
                self._emit_product(self.products[var])
            elif var in self.recurrences:
                self._emit_recurrence(self.recurrences[var], value)
            elif not self._emit_channels_last(var, value):
                replacements = {operand: self._channels_first(operand) for operand in operands(value)}
                self.first[var] = self.builder.emit(rebind(value, replacements), var.name)
        outputs = [self._channels_first(output) for output in self.graph.outputs]
        mod = self.builder.finish(outputs)
        calls = tuple(_kernel_calls(mod, self.made))
        return Lowered(mod, self.kernels, self.packing, self.mappings, calls, tuple(self.uses))

    # Layouts

    def _channels_first(self, var: Expr) -> Expr:
        if not isinstance(var, relax.Var):
            return var
        if var in self.graph.weights:
            return self.builder.weight(var.name, self.graph.weights[var])
        if var not in self.first:
            image = self._without_halo(var)
            self.first[var] = self.builder.emit(relax.op.permute_dims(image, [0, 3, 1, 2]))
        return self.first[var]

    def _without_halo(self, var: Expr) -> Expr:
        """Give an image as it is channels last, and where it has a halo, what is inside."""
        if var not in self.halos:
            return self.last[var]
        top, left, _, _ = self.halos[var].sides
        _, _, height, width = shape_of(var)
        inside = relax.op.strided_slice(
            self.last[var], [1, 2], [top, left], [top + height, left + width], assume_inbound=True
        )
        return self.builder.emit(inside)

    def _channels_last(self, var: Expr) -> Expr:
        if var not in self.last:
            interleaved = self._emit_interleaved(var)
            self.last[var] = self._emit_transposed(var) if interleaved is None else interleaved
        return self.last[var]

    def _emit_transposed(self, var: Expr) -> Expr:
        return self.builder.emit(relax.op.permute_dims(self.first[var], [0, 2, 3, 1]))

    def _emit_interleaved(self, var: Expr, step: Quantize | None = None) -> Expr | None:
        """Bring an image of few channels over by its own kernel, quantized on the way by `step`."""
        shape = shape_of(var)
        if str(var.ty.dtype) != "float32" or var in self.last or not can_interleave(shape, self.vectors):
            return None
        function = (
            interleave(shape, self.vectors, step.scale, step.zero_point)
            if step
            else interleave(shape, self.vectors)
        )
        batch, channels, height, width = shape
        out = (batch, height, width, channels)
        dtype = "uint8" if step else "float32"
        return self.builder.call(function, "interleave", [self._channels_first(var)], out, dtype)

    def _prefers_last(self, tensors: list[Expr], var: Expr) -> bool:
        """Whether an operator that runs in either layout should run channels last."""
        if not all(_is_image(tensor) for tensor in (*tensors, var)):
            return False
        made_last = [tensor in self.last and tensor not in self.first for tensor in tensors]
        return any(made_last) or is_convolution_input(self.composites, var)

    def _emit_channels_last(self, var: Expr, value: Expr) -> bool:
        """Emit an operator channels last if it can run there and should; tell whether it was."""
        tensors = [operand for operand in operands(value) if operand not in self.graph.weights]
        if not tensors or not self._prefers_last(tensors, var):
            return self._emit_flattened(var, value, tensors)
        emit = self._channels_last_form(var, value, tensors)
        if emit is None:
            return False
        self.last[var] = emit()
        return True

    def _channels_last_form(self, var: Expr, value: Expr, tensors: list[Expr]) -> Callable[[], Expr] | None:
        step = read_operator(self.graph.mod, value)
        if isinstance(step, AveragePool):
            step = replace(step, channels_last=True)
        if isinstance(step, Quantize):
            quantized = self._emit_interleaved(tensors[0], step)
            if quantized is not None:
                return lambda: quantized
        if isinstance(step, Quantize | Dequantize | Add | Rescale | AveragePool):
            operator_step = step
            return lambda: self._call_operator(operator_step, [self._channels_last(t) for t in tensors], var)
        same_shape = all(shape_of(tensor) == shape_of(var) for tensor in tensors)
        match operator(value):
            case name if name in ELEMENTWISE and same_shape and self._others_are_scalars(value, tensors):
                return lambda: self.builder.emit(rebind(value, self._all_last(operands(value))))
            case "concat" if _joins_channels(value) and len(tensors) == len(value.args[0].fields):
                return lambda: self.builder.emit(
                    relax.op.concat([self._channels_last(t) for t in tensors], 3)
                )
            case "mean" if [int(axis) for axis in value.attrs.axis or ()] == [2, 3] and value.attrs.keepdims:
                return lambda: self.builder.emit(relax.op.mean(self._channels_last(tensors[0]), [1, 2], True))
            case "nn.max_pool2d" | "nn.avg_pool2d" if str(value.attrs.layout) == "NCHW":
                return lambda: self._emit_pool(value, tensors[0])
            case _:
                return None

    def _emit_flattened(self, var: Expr, value: Expr, tensors: list[Expr]) -> bool:
        """Emit a reshape of 1x1 images, which is the same in both layouts."""
        is_view = operator(value) in ("reshape", "squeeze", "flatten") and len(tensors) == 1
        if not is_view or tensors[0] in self.first or shape_of(tensors[0])[2:] != (1, 1):
            return False
        shape = relax.ShapeExpr(shape_of(var))
        self.first[var] = self.builder.emit(relax.op.reshape(self.last[tensors[0]], shape))
        return True

    def _all_last(self, operands: list[Expr]) -> dict[Expr, Expr]:
        """Bring the operands over; weights among them are scalars and stay as they are."""
        return {
            each: self._channels_first(each) if each in self.graph.weights else self._channels_last(each)
            for each in operands
        }

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
        x = self._channels_last(tensor)
        return self.builder.emit(pool(x, window, strides, padding, dilation, layout="NHWC", **options))

    def _call_operator(self, step: Operator, arguments: list[Expr], var: Expr) -> Expr:
        batch, channels, height, width = shape_of(var)
        function = prim_func(step, *((shape_of(a), str(a.ty.dtype)) for a in arguments))
        return self.builder.call(
            function, step.name, arguments, (batch, height, width, channels), step.output
        )

    # Kernels

    def _emit_composite(self, composite: Composite) -> None:
        if composite.operator == "nn.conv2d":
            self._emit_conv2d(composite)
        else:
            self._emit_dense(composite)

    def _emit_conv2d(self, composite: Composite) -> None:
        assert composite.weight is not None
        found = (composite.data, composite.residual, composite.result)
        halos = Halos(*(self.halos.get(var, Halo()) if var is not None else Halo() for var in found))
        kernel = replace(self.convolutions[composite.result], halos=halos)
        out = (kernel.geometry.batch, *kernel.target.shape)
        x = self._channels_last(composite.data)
        residual = [] if composite.residual is None else [self._channels_last(composite.residual)]
        weight = self.builder.weight(composite.layer, kernel.pack_weight(composite.weight))
        result = self._call_kernel(kernel, composite, x, weight, residual, out)
        self.last[composite.result] = result
        self.made[result] = composite.layer

    def _choose_convolution(self, composite: Composite) -> Kernel:
        assert composite.weight is not None
        geometry = conv_geometry(
            shape_of(composite.data), composite.weight.shape, composite.attributes, composite.padding
        )
        return self._choose_kernel(geometry, composite)

    def _emit_dense(self, composite: Composite) -> None:
        out = shape_of(composite.result)
        geometry = dense_geometry(shape_of(composite.data), out[-1])
        kernel = self._choose_kernel(geometry, composite)
        x = self._channels_first(composite.data)
        residual = [] if composite.residual is None else [self._channels_first(composite.residual)]
        if composite.weight is not None:
            packed = kernel.pack_weight(dense_weight(composite.weight))
            weight = self.builder.weight(composite.layer, packed)
        else:
            weight = self._emit_decoded(kernel, composite)
        result = self._call_kernel(kernel, composite, x, weight, residual, out)
        self.first[composite.result] = result
        self.made[result] = composite.layer

    def _emit_product(self, composite: ProductComposite) -> None:
        kernel = ProductKernel(
            self.vectors,
            self.cores,
            composite.left,
            composite.right,
            composite.out,
            composite.epilogue,
            composite.zero_point,
        )
        kernel = replace(kernel, given=self.mappings.tiling(composite.layer, kernel.nest, kernel.tiling))
        self.kernels[composite.layer] = kernel.name
        self.uses.append(Use(composite.layer, kernel, kernel.nest))
        arguments = [self._channels_first(operand) for operand in composite.operands]
        if composite.multiplier is not None:
            packed = pack_channels(self.vectors, kernel.geometry, composite.multiplier)
            arguments.append(self.builder.weight(f"{composite.layer}|multiplier", packed))
        shape, dtype = shape_of(composite.result), composite.epilogue.output
        result = self.builder.call(kernel.prim_func(), "product", arguments, shape, dtype)
        self.first[composite.result] = result
        self.made[result] = composite.layer

    def _choose_kernel(self, geometry: Geometry, composite: Composite) -> Kernel:
        """Choose the kernel; however often a weight is used, it is packed in one way."""
        packing = self.packing.get(composite.layer)
        kernel = choose_kernel(
            self.isa,
            self.cores,
            geometry,
            composite.epilogue,
            composite.zero_point,
            packing,
            composite.weight is None,
        )
        nest = _nest(kernel, composite)
        vectors = packing.vectors if packing is not None else None
        tiling = self.mappings.tiling(composite.layer, nest, kernel.tiling, vectors)
        kernel = replace(kernel, tiling=tiling)
        self.packing.setdefault(composite.layer, kernel.packing)
        return kernel

    def _emit_recurrence(self, recurrence: Recurrence, value: Expr) -> None:
        cell = recurrence.cell
        self.kernels[recurrence.layer] = kernel_name(self.vectors, cell)
        arguments = [self._channels_first(argument) for argument in call_arguments(value)]
        function = None
        if has_kernel(self.vectors, cell):
            steps, batch, _ = shape_of(recurrence.gates)
            function = recurrent_kernel(self.vectors, cell, steps, batch)
            packed = pack_recurrent_weight(self.vectors, self.graph.weights[recurrence.weight])
            arguments[1] = self.builder.weight(recurrence.layer, packed)
        result = call_cell(self.builder, cell, arguments, function)
        self.first[recurrence.variable] = result
        if function is not None:
            self.made[result] = recurrence.layer

    def _emit_decoded(self, kernel: Kernel, composite: Composite) -> Expr:
        """Decode a stored weight and bring it to the kernel's layout, at run time."""
        replacements = {operand: self._channels_first(operand) for operand in operands(composite.encoded)}
        dense = self.builder.emit(rebind(composite.encoded, replacements))
        channels, outputs = shape_of(dense)
        function = _pack_function(kernel, channels, outputs)
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
        self.uses.append(Use(composite.layer, kernel, _nest(kernel, composite), shape_of(x), out))
        function = kernel.prim_func(shape_of(x), out)
        name = kernel.name.replace(" ", "_").replace("-", "_")
        arguments = [x, weight, *constants, *residual]
        return self.builder.call(function, name, arguments, out, composite.epilogue.output)

    def _is_decode(self, value: Expr) -> bool:
        return any(
            composite.encoded is not None and composite.encoded.same_as(value)
            for composite in self.composites.values()
        )


def _kernel_calls(mod: Module, made: Mapping[Expr, str]) -> Iterator[KernelCall]:
    """Give the calls whose results are in `made`."""
    for var, value in function_calls(mod, "main"):
        if var in made:
            given = var.ty.fields[0] if isinstance(var.ty, relax.TupleType) else var.ty
            reads = value.args[1].fields[0].ty
            yield KernelCall(made[var], value.args[0].name_hint, str(reads.dtype), str(given.dtype))


def _nest(kernel: Kernel, composite: Composite) -> Nest | TileNest:
    return kernel.nest(DENSE if composite.operator == "matmul" else CONVOLUTION)


def _is_image(tensor: Expr) -> bool:
    return isinstance(tensor.ty, relax.TensorType) and len(shape_of(tensor)) == 4


def _joins_channels(value: Expr) -> bool:
    return value.attrs.axis is not None and int(value.attrs.axis) == 1


def _pack_function(kernel: Kernel, channels: int, outputs: int) -> Any:
    """Build the PrimFunc that packs int8 codes [C, K] as `Kernel.pack_weight` does for a dense layer."""
    isa, vectors = kernel.isa, kernel.tiling.vectors
    steps = -(-channels // isa.group)
    count = -(-outputs // isa.lanes)
    lane_size = isa.group
    codes = placeholder((channels, outputs), "int8", "codes")
    whole = count // vectors

    def code(i: Any) -> Any:
        block_size = steps * vectors * isa.lanes * lane_size
        block = i // block_size
        in_rest = block >= whole
        rest = count - whole * vectors if count % vectors else vectors
        width = tirx.Select(in_rest, rest, vectors)
        at = i - block * block_size
        step = at // (width * isa.lanes * lane_size)
        inside = at % (width * isa.lanes * lane_size)
        channel = step * lane_size + inside % lane_size
        output = block * vectors * isa.lanes + inside // lane_size
        exists = tirx.all(channel < channels, output < outputs)
        return tirx.if_then_else(exists, codes(channel, output), tirx.const(0, "int8"))

    size = tirx.IntImm("int64", count * isa.lanes * steps * lane_size)
    packed = te.compute((size,), code, "packed")
    return te.create_prim_func([codes, packed]).without_attr("global_symbol")
