"""Tensors: which of a network are on grids, who reads their codes, and how many bits these have.

A tensor has a grid where a layer of integers reads it, directly or through operators that have an integer
form (residual addition, concatenation, pooling, clipping, data movement). It is as wide as its widest reader:

    a layer                                      the bits of its scheme's input
    the sum with a residual in a layer's chain   the same: the residual is as exact as what it is added to
    an operator with an integer form             the bits of its result
    what reads it as float, where it is not      8
    there unrounded, too; a product

The layer then runs with as many bits as its input has (`settled`).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from tersor.ir.chains import activation_limits, find_chains, find_gathers, find_products
from tersor.ir.graph import Expr, Graph, Module, operands, operator, shape_of
from tersor.ir.recurrent import find_recurrences
from tersor.ir.untyped import relax
from tersor.scheme import Scheme
from tersor.weight_format import Integer

# Operators whose result has the codes of their input, only elsewhere.
KEEPS_CODES = (
    "reshape", "permute_dims", "squeeze", "expand_dims", "flatten", "strided_slice", "nn.max_pool2d",
)  # fmt: skip
# Those among them that move nothing: behind a float operator they stay float, and the last view is rounded.
VIEWS = ("reshape", "squeeze", "expand_dims", "flatten")
MOST_BITS = 8


class Width(NamedTuple):
    """Bits of a tensor's codes, and the reader that asks for them: a layer, or what reads it as float."""

    bits: int
    reader: str


class Tensors:
    """What a module rounds whose layers have `schemes`, by name; a missing one is fp32."""

    def __init__(self, graph: Graph, schemes: Mapping[str, Scheme]) -> None:
        self.graph = graph
        chains = find_chains(graph)
        is_rounded = {name for name, scheme in schemes.items() if scheme.weight is not None}
        self.has_grid = {name for name in is_rounded if schemes[name].input and not schemes[name].dynamic}
        integer = [chain for chain in chains if chain.layer in is_rounded]
        self.chains = {chain.variables[0]: chain for chain in integer}
        self.owner = {var: chain for chain in integer for var in chain.variables}
        self.gathers = {each.result: each for each in find_gathers(graph) if each.layer in is_rounded}
        products = find_products(graph)
        self.products = {each.result: each for each in products if each.layer in self.has_grid}
        # Inside a float layer's chain nothing is rounded: its bias and activation come first.
        self.float_chains = {var for chain in chains for var in chain.variables} - set(self.owner)
        recurrences = find_recurrences(graph)
        self.recurrences = {each.variable: each for each in recurrences if each.layer in is_rounded}
        self.wanted, self.symmetric = self._quantized()
        self.schemes, self.widths = self._settle(dict(schemes))

    def reads_codes(self, var: Expr, value: Expr) -> bool:
        """Whether a binding is part of an integer operator, so that its operands are codes."""
        chain = self.owner.get(var)
        if chain is not None and (chain.residual is None or chain.result in self.wanted):
            return chain.layer in self.has_grid
        if chain is not None:  # its sum with the residual is float; what comes before is not
            return chain.layer in self.has_grid and not _adds(value, chain.residual)
        if var in self.products:
            return True
        is_float = var not in self.wanted or self.made_in_float(var)
        return not is_float and has_integer_form(self.graph, value)

    def made_in_float(self, var: Expr) -> bool:
        """Whether a tensor is made by a float operator, or is another view of one that is."""
        value = self.graph.definition(var)
        if value is None or var in self.owner or var in self.products:
            return False
        if operator(value) in VIEWS:
            return self.made_in_float(value.args[0])
        return var in self.float_chains or not has_integer_form(self.graph, value)

    def keeps_codes(self, var: Expr) -> bool:
        """Whether a tensor that is on a grid has the codes of the tensor that it is made of."""
        kept = operator(self.graph.definition(var)) in KEEPS_CODES
        return kept and not self.made_in_float(var) and var not in self.owner

    @cached_property
    def asked_by(self) -> dict[str, Width]:
        """By layer the width of its input, with the reader that asks for it."""
        found: dict[str, Width] = {}
        for chain in self.chains.values():
            width = self.widths.get(chain.data)
            known = found.get(chain.layer)
            if chain.layer in self.has_grid and width and (known is None or width.bits > known.bits):
                found[chain.layer] = width
        return found

    def _quantized(self) -> tuple[set[Expr], set[Expr]]:
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
            elif var in wanted and not self.made_in_float(var) and has_integer_form(self.graph, value):
                sources = {operand for operand in operands(value) if self.graph.value(operand) is None}
                wanted |= sources
                if var in symmetric and operator(value) in KEEPS_CODES:
                    symmetric |= sources
        return wanted, symmetric

    def _settle(self, schemes: dict[str, Scheme]) -> tuple[dict[str, Scheme], dict[Expr, Width]]:
        """Widen the inputs of layers until all agree with their tensors."""
        while True:
            widths, found = self._widths(schemes), dict(schemes)
            for chain in self.chains.values():
                scheme = found[chain.layer]
                bits = widths[chain.data].bits if chain.layer in self.has_grid else 0
                if scheme.input and scheme.input_bits < bits:
                    found[chain.layer] = replace(scheme, input=Integer(bits))
            if found == schemes:
                return found, widths
            schemes = found

    def _widths(self, schemes: Mapping[str, Scheme]) -> dict[Expr, Width]:
        graph = self.graph
        widths: dict[Expr, Width] = {}

        def ask(tensor: Expr, width: Width) -> None:
            if tensor in self.wanted and (tensor not in widths or width.bits > widths[tensor].bits):
                widths[tensor] = width

        as_float = Width(MOST_BITS, "what reads it as float")
        for output in graph.outputs:
            if not self._is_unrounded(output):
                ask(output, as_float)
        for var, value in reversed(graph.bindings):
            chain = self.owner.get(var)
            for tensor in operands(value):
                if not self.reads_codes(var, value):
                    if not self._is_unrounded(tensor):
                        ask(tensor, as_float)
                elif chain is not None:
                    ask(tensor, Width(min(schemes[chain.layer].input_bits, MOST_BITS), chain.layer))
                elif var in self.products:
                    ask(tensor, Width(MOST_BITS, self.products[var].layer))
                else:
                    ask(tensor, widths.get(var, as_float))
        widths |= {tensor: as_float for tensor in self.wanted if tensor not in widths}
        for var, value in graph.bindings:  # what only moves codes has those of its source
            if var in self.wanted and self.keeps_codes(var):
                widths[var] = widths[operands(value)[0]]
        return widths

    def _is_unrounded(self, tensor: Expr) -> bool:
        """Whether what reads a tensor as float gets it as it was before it was put on its grid."""
        value = self.graph.definition(tensor)
        return value is None or not self.reads_codes(tensor, value)


def settled(mod: Module, schemes: Mapping[str, Scheme]) -> dict[str, Scheme]:
    """Give the schemes as they are carried out: inputs are as wide as what else reads their tensors asks."""
    return Tensors(Graph(mod), schemes).schemes


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


def _adds(value: Expr, residual: Expr) -> bool:
    return operator(value) == "add" and any(operand.same_as(residual) for operand in operands(value))
