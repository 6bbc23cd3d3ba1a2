"""Composite: what an accelerator makes in one program, found in the integer graph.

    requantize(bias + conv2d(pad(x), w))      a convolution with its epilogue; depthwise and dense alike
    requantize(product(a, b))                 a product of activations, for each of the batch
    add(a, b), average_pool(x), rescale(x), max_pool2d(x)      on the vector unit

The weight may be decoded from what is stored: its chain is then part of the composite.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from tersor.formats.decoding import step_document
from tersor.ir import operators
from tersor.ir.decoders import read_decoder
from tersor.ir.graph import Expr, Graph, operands, operator, pair, shape_of
from tersor.ir.integer_layers import IntegerLayer, IntegerProduct, LastStep, integer_layer, integer_product
from tersor.ir.loop_nest import layer_of_call
from tersor.ir.operators import call_arguments, read_operator
from tersor.ir.weight_chains import WeightChain, find_chains_of_weights
from tersor.layer import Layer
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.isa import vector
from tersor.targets.accelerator.isa.epilogue import Epilogue, Requantize, Rescale, Residual
from tersor.targets.accelerator.offload.code_bits import MOST_BITS, code_bits
from tersor.targets.accelerator.offload.region import Codes, DecodeStep, StoredWeight, Task

Binding = tuple[Expr, Expr]


@dataclass(frozen=True)
class ArrayWork:
    """What the array multiplies and adds up."""

    layer: Layer
    scheme: Scheme
    epilogue: Epilogue


@dataclass(frozen=True)
class VectorWork:
    """What the vector unit makes of inputs of `shape`, [N, C, H, W]."""

    name: str
    operator: vector.VectorOperator
    shape: vector.Shape


@dataclass(frozen=True)
class Composite:
    """Bindings that are one program, in order; the last one is its result.

    `task`, still without a program, numbers the tensors among `reads`, which come from outside.
    """

    kind: str
    work: ArrayWork | VectorWork
    task: Task
    reads: tuple[Expr, ...]
    bindings: tuple[Binding, ...]

    @property
    def name(self) -> str:
        """The name of the layer or operator."""
        return self.task.layer

    @property
    def result(self) -> Expr:
        """The variable that the rest of the network reads."""
        return self.bindings[-1][0]

    @property
    def macs(self) -> int:
        """Products that it makes: none on the vector unit."""
        return self.work.layer.macs if isinstance(self.work, ArrayWork) else 0


def find_composites(graph: Graph, schemes: Mapping[str, Scheme]) -> list[Composite]:
    """Find all that some accelerator could run, in the order of the network; `schemes` are by layer."""
    return list(_Finder(graph, schemes).composites())


class _Finder:
    def __init__(self, graph: Graph, schemes: Mapping[str, Scheme]) -> None:
        self.graph = graph
        self.schemes = schemes
        chains = find_chains_of_weights(graph.mod).values()
        self.chains = {chain.bindings[-1][0]: chain for chain in chains}
        self.bits = code_bits(graph, schemes, {var: chain.layer for var, chain in self.chains.items()})
        self.names: dict[str, int] = {}

    def composites(self) -> Iterator[Composite]:
        for var, value in self.graph.bindings:
            if (layer := integer_layer(self.graph, var, value)) is not None:
                found = self._layer(layer)
            elif (product := integer_product(self.graph, var, value)) is not None:
                found = self._product(product)
            else:
                found = self._vector(var, value)
            if found is not None:
                yield found

    def _layer(self, layer: IntegerLayer) -> Composite | None:
        chain = self.chains.get(layer.weight)
        if chain is None and layer.weight not in self.graph.weights:
            return None
        name = layer.weight.name if chain is None else chain.layer
        inside = (*([] if chain is None else chain.bindings), *self._bindings(layer.interior, layer.result))
        reads = _Reads(inside)
        stored = _stored(reads, layer, name, chain, self.graph)
        if stored is None:
            return None
        total = self.graph.definition(layer.interior[-1])
        scale = call_arguments(inside[-1][1])[1]
        task = Task(
            name,
            "",
            reads.number(layer.data),
            layer.zero_point,
            stored,
            reads.number(total.args[1]),
            reads.number(scale),
            None if layer.residual is None else reads.number(layer.residual),
        )
        scheme = replace(self.schemes.get(name, INT8), dynamic=False)
        epilogue = self._epilogue(layer.step, layer.result, scheme)
        work = ArrayWork(layer_of_call(name, layer.call, layer.padding), scheme, epilogue)
        kind = "depthwise" if work.layer.is_depthwise else operator(layer.call).removeprefix("nn.")
        return Composite(kind, work, task, reads.all, inside)

    def _product(self, product: IntegerProduct) -> Composite | None:
        left, right = shape_of(product.left), shape_of(product.right)
        inside = self._bindings(product.interior, product.result)
        reads = _Reads(inside)
        scale = call_arguments(inside[-1][1])[1]
        task = Task(
            product.layer,
            "",
            reads.number(product.left),
            product.product.a_zero_point,
            Codes(reads.number(product.right), product.product.b_zero_point),
            multiplier=reads.number(scale),
        )
        *batch, rows, inner = left
        layer = Layer(
            product.layer,
            "matmul",
            N=rows,
            G=prod(batch),
            K=right[-1],
            C=inner,
            weight_bearing=False,
        )
        work = ArrayWork(layer, INT8, self._epilogue(product.step, product.result, INT8))
        return Composite("product", work, task, reads.all, inside)

    def _vector(self, var: Expr, value: Expr) -> Composite | None:
        found = _vector_operator(self.graph, value)
        if found is None:
            return None
        kind, applied = found
        number = self.names[kind] = self.names.get(kind, 0) + 1
        inside = ((var, value),)
        reads = _Reads(inside)
        first, *others = call_arguments(value) if operator(value) == "call_tir" else value.args
        right = Codes(reads.number(others[0]), 0) if others else None
        task = Task(f"{kind}.{number}", "", reads.number(first), weight=right)
        work = VectorWork(task.layer, applied, _image(shape_of(first)))
        return Composite(kind, work, task, reads.all, inside)

    def _epilogue(self, step: LastStep, result: Expr, scheme: Scheme) -> Epilogue:
        bits = self.bits.get(result, MOST_BITS)
        other = None if bits == scheme.input_bits else bits
        match step:
            case operators.Requantize(zero_point, bounds, _):
                return Requantize(zero_point, bounds, bits=other)
            case operators.RequantizeAdd(multiplier, residual_zero_point, zero_point, bounds, _):
                return Requantize(zero_point, bounds, Residual(multiplier, residual_zero_point), other)
            case operators.RescaleAccumulator():
                return Rescale()

    def _bindings(self, interior: tuple[Expr, ...], result: Expr) -> tuple[Binding, ...]:
        return tuple((var, self.graph.definition(var)) for var in (*interior, result))


class _Reads:
    """The tensors that bindings read from outside, numbered in their order."""

    def __init__(self, inside: tuple[Binding, ...]) -> None:
        made = {var for var, _ in inside}
        read = [operand for _, value in inside for operand in operands(value)]
        self.all = tuple(var for var in dict.fromkeys(read) if var not in made)

    def number(self, var: Expr) -> int:
        return self.all.index(var)


def _stored(
    reads: _Reads, layer: IntegerLayer, name: str, chain: WeightChain | None, graph: Graph
) -> StoredWeight | None:
    """Describe how a weight is stored; None if something computes it that is no step of a format."""
    shape, axis = shape_of(layer.weight), 0 if operator(layer.call) == "nn.conv2d" else 1
    if chain is None:
        return StoredWeight({"values": reads.number(layer.weight)}, shape, axis)
    names = {var: var.name.removeprefix(f"{name}.").rstrip("'") for var in chain.constants}
    steps: list[DecodeStep] = []
    for i, (var, value) in enumerate(chain.bindings):
        step = read_decoder(graph.mod, value)
        if step is None:
            return None
        read = tuple(names[each] for each in call_arguments(value))
        names[var] = f"step{i}"
        steps.append(DecodeStep(step_document(step), read, names[var]))
    arrays = {names[var]: reads.number(var) for var in chain.constants}
    return StoredWeight(arrays, shape, axis, tuple(steps)) if "values" in arrays else None


def _vector_operator(graph: Graph, value: Expr) -> tuple[str, vector.VectorOperator] | None:
    match read_operator(graph.mod, value):
        case operators.Add(a, a_zero, b, b_zero, zero_point, bounds):
            return "add", vector.Add(a, a_zero, b, b_zero, zero_point, bounds)
        case operators.Rescale(multiplier, in_zero_point, zero_point, bounds):
            return "rescale", vector.Recode(multiplier, in_zero_point, zero_point, bounds)
        case operators.AveragePool(kernel, stride, multiplier, in_zero_point, zero_point, bounds, False):
            pool = vector.AveragePool(multiplier, in_zero_point, zero_point, kernel, stride, bounds)
            return "average_pool", pool
        case _ if is_max_pool_of_codes(value):
            attrs = value.attrs
            top, left, bottom, right = (int(pad) for pad in attrs.padding)
            pool = vector.MaxPool(pair(attrs.pool_size), pair(attrs.strides), (top, left, bottom, right))
            return "max_pool2d", pool
        case _:
            return None


def is_max_pool_of_codes(value: Expr) -> bool:
    """Whether an expression takes maxima of uint8 windows that are neither dilated nor cut at the edge."""
    if operator(value) != "nn.max_pool2d" or str(value.args[0].ty.dtype) != "uint8":
        return False
    attrs = value.attrs
    return pair(attrs.dilation) == (1, 1) and not attrs.ceil_mode and str(attrs.layout) == "NCHW"


def _image(shape: tuple[int, ...]) -> vector.Shape:
    """See a tensor of any rank as [N, C, H, W]: its rows are images of one line."""
    if len(shape) == 4:
        return shape
    return (1, prod(shape[:-1]), 1, shape[-1] if shape else 1)
