"""FuseRows: operators that work on rows, and what stands between them, become one kernel for each row.

    y = layer_norm(add(x, r));  a = quantize(y);  z = add(y, ...)
        ->  y, a = rows(x, r);  z = add(y, ...)

A region grows along the network as long as no path leaves it and comes back. Chains of a few light operators
that end in a transposition are left to TVM's own fusion, which writes them where they are going.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from tersor.ir.graph import Builder, Expr, Graph, Module, operands, operator, rebind, shape_of
from tersor.ir.operators import read_operator
from tersor.ir.untyped import relax
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.row_steps import (
    constant_operands,
    is_heavy,
    is_reduction,
    row_shape,
    row_value,
)
from tersor.targets.cpu.kernels.rows import Load, Program, Value, row_kernel

DTYPES = ("float32", "uint8")
# Elements from which on a chain of light operators is worth a kernel.
LEAST = 4096
# Tensors that a kernel reads and writes at most.
MOST = 16


@dataclass(eq=False)
class Region:
    """Neighbouring operators on the same rows [..., C], in the order of the network."""

    shape: tuple[int, ...]
    members: dict[Expr, Expr] = field(default_factory=dict)  # variable -> operator


def fuse_rows(mod: Module, isa: Isa) -> Module:
    """Put one kernel in the place of each region."""
    return _Fusion(mod, isa).rewrite()


class _Fusion:
    def __init__(self, mod: Module, isa: Isa) -> None:
        self.graph = Graph(mod)
        self.isa = isa
        self.alive = _alive(self.graph)
        self.region: dict[Expr, Region] = {}
        for var, value in self.graph.bindings:
            if var in self.alive:
                self._place(var, value)
        for region in list(dict.fromkeys(self.region.values())):
            if not self._is_worth(region):
                for var in region.members:
                    del self.region[var]
        self.builder = Builder(self.graph)
        self.values: dict[Expr, Expr] = {var: var for var in self.graph.inputs}
        self.emitted: set[Region] = set()

    def rewrite(self) -> Module:
        """Emit all that is alive, a region as soon as something reads it."""
        for var, _ in self.graph.bindings:
            if var in self.alive:
                self._emit(var)
        return self.builder.finish([self._value(output) for output in self.graph.outputs])

    # Regions

    def _place(self, var: Expr, value: Expr) -> None:
        """Put an operator into the regions that it continues, or begin one."""
        shape = row_shape(self.graph, var, value)
        if shape is None or not _has_elements(shape) or any(not _is_read(each) for each in operands(value)):
            return
        read = self._read(value)
        joined: Region | None = None
        for operand in read:
            region = self.region.get(operand)
            if region is None or region is joined or not self._fits(region, shape, read):
                continue
            if joined is not None:
                if region.shape == joined.shape and not self._returns({**region.members, **joined.members}):
                    self._merge(joined, region)
                continue
            if not self._returns({**region.members, var: value}):
                joined = region
        if joined is None:
            if not all(_is_broadcast(shape_of(each), shape) for each in read):
                return
            joined = Region(shape)
        joined.members[var] = value
        self.region[var] = joined

    def _fits(self, region: Region, shape: tuple[int, ...], read: list[Expr]) -> bool:
        if shape not in (region.shape, (*region.shape[:-1], 1)):
            return False
        tensors = {each for member in region.members.values() for each in self._read(member)}
        outside = [each for each in tensors if each not in region.members]
        return len(outside) < MOST and all(_is_broadcast(shape_of(each), region.shape) for each in read)

    def _returns(self, members: dict[Expr, Expr]) -> bool:
        """Whether a path leaves these operators and comes back to them."""
        pending = [each for value in members.values() for each in operands(value) if each not in members]
        seen: set[Expr] = set()
        while pending:
            var = pending.pop()
            if var in seen:
                continue
            seen.add(var)
            region = self.region.get(var)
            own = region is not None and any(each in members for each in region.members)
            values = (
                region.members.values() if region is not None and not own else [self.graph.definition(var)]
            )
            for operand in (each for value in values for each in operands(value)):
                if operand in members:
                    return True
                pending.append(operand)
        return False

    def _merge(self, region: Region, other: Region) -> None:
        order = [var for var, _ in self.graph.bindings if var in region.members or var in other.members]
        region.members = {
            var: region.members[var] if var in region.members else other.members[var] for var in order
        }
        for var in other.members:
            self.region[var] = region

    def _is_worth(self, region: Region) -> bool:
        values = region.members.values()
        if region.shape[-1] >= self.isa.lanes and any(is_reduction(self.graph, value) for value in values):
            return True
        outputs = self._outputs(region)
        if prod(region.shape) < LEAST or any(is_reduction(self.graph, value) for value in values):
            return False
        if len(outputs) > 1 or any(is_heavy(value) for value in values):
            return True
        return not any(operator(value) == "permute_dims" for value in self._neighbours(region))

    def _neighbours(self, region: Region) -> Iterable[Expr]:
        for var, value in region.members.items():
            yield from (self.graph.definition(each) for each in operands(value) if each not in region.members)
            yield from (self.graph.definition(user) for user in self.graph.users(var))

    def _outputs(self, region: Region) -> list[Expr]:
        """Give the members that something else reads."""
        return [
            var
            for var in region.members
            if self.graph.is_output(var)
            or any(user in self.alive and user not in region.members for user in self.graph.users(var))
        ]

    def _read(self, value: Expr) -> list[Expr]:
        constants = constant_operands(self.graph, value)
        return [each for each in operands(value) if each not in constants]

    # Emitting

    def _emit(self, var: Expr) -> None:
        region = self.region.get(var)
        if var in self.values or region in self.emitted:
            return
        if region is None:
            value = self.graph.definition(var)
            replacements = {operand: self._value(operand) for operand in operands(value)}
            self.values[var] = self.builder.emit(rebind(value, replacements), var.name)
        else:
            self.emitted.add(region)
            self._emit_region(region)

    def _value(self, var: Expr) -> Expr:
        """Give the new variable of an old one, and emit what it is made from if that was not done yet."""
        if not isinstance(var, relax.Var):
            return var
        if var in self.graph.weights:
            return self.builder.weight(var.name, self.graph.weights[var])
        self._emit(var)
        return self.values[var]

    def _emit_region(self, region: Region) -> None:
        values: dict[Expr, Value] = {}
        arguments: dict[Expr, Load] = {}

        def read(operand: Expr) -> Value:
            if operand in values:
                return values[operand]
            if operand not in arguments:
                shape, dtype = shape_of(operand), str(operand.ty.dtype)
                arguments[operand] = Load(len(arguments), shape, dtype)
            return arguments[operand]

        for var, value in region.members.items():
            values[var] = row_value(self.isa, self.graph, value, read)
        outputs = self._outputs(region)
        program = Program(region.shape, tuple(values[var] for var in outputs))
        tensors = [self._value(argument) for argument in arguments]
        types = [(shape_of(var), str(var.ty.dtype)) for var in outputs]
        name = _name(self.graph, region)
        results = self.builder.call_several(row_kernel(self.isa, program), name, tensors, types)
        self.values.update(zip(outputs, results, strict=True))


def _alive(graph: Graph) -> set[Expr]:
    """Give the variables that the outputs need."""
    needed = set(graph.outputs)
    for var, value in reversed(graph.bindings):
        if var in needed:
            needed.update(operands(value))
    return needed


def _is_read(tensor: Expr) -> bool:
    return isinstance(tensor.ty, relax.TensorType) and str(tensor.ty.dtype) in DTYPES


def _has_elements(shape: tuple[int, ...]) -> bool:
    return len(shape) > 0 and prod(shape) > 0


def _is_broadcast(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a tensor of `shape` is read at every element of one of shape `whole`."""
    if not 0 < len(shape) <= len(whole):
        return False
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    return all(own in (1, extent) for own, extent in pairs)


def _name(graph: Graph, region: Region) -> str:
    """Name a kernel by its operators, for a profile."""
    steps = [(read_operator(graph.mod, value), operator(value)) for value in region.members.values()]
    names = [step.name if step else name.removeprefix("nn.") for step, name in steps]
    return "_".join(["rows", *dict.fromkeys(names)])
