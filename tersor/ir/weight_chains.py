"""Weight chains: the bindings that compute a layer's weight from stored arrays, as `encode` leaves them.

conv2d(x, arrange(place(unpack(values), positions)))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operands, operator, rebind
from tersor.ir.operators import GatherRows, call_arguments, read_operator
from tersor.ir.recurrent import read_cell
from tersor.ir.untyped import relax


@dataclass(frozen=True, eq=False)
class WeightChain:
    """The bindings that compute a layer's weight, which is the last of them, and the constants they read."""

    layer: str
    bindings: tuple[tuple[Expr, Expr], ...]
    constants: Mapping[Expr, Array]

    def emit(self, builder: Builder, functions: Module) -> Expr:
        """Emit the bindings, whose PrimFuncs are in `functions`, and give the weight."""
        values = {var: builder.weight(var.name, value) for var, value in self.constants.items()}
        for var, value in self.bindings:
            values[var] = builder.emit(recalled(rebind(value, values), builder, functions), var.name)
        return values[self.bindings[-1][0]]


def find_chains_of_weights(mod: Module) -> dict[str, WeightChain]:
    """Find the weights of layers and tables that are computed from constants alone, by layer.

    A layer is named by the `.values` that its chain reads, or by the first constant.
    """
    graph = Graph(mod)
    constant: set[Expr] = set()
    for var, value in graph.bindings:
        read = operands(value)
        if read and all(each in graph.weights or each in constant for each in read):
            constant.add(var)
    read_as_weights = [_weight_operand(graph, value) for var, value in graph.bindings if var not in constant]
    heads = dict.fromkeys(var for var in read_as_weights if var in constant)
    chains = [_chain(graph, head) for head in heads]
    return {chain.layer: chain for chain in chains}


def recalled(value: Expr, builder: Any, functions: Module) -> Expr:
    """Give a call with its PrimFunc taken over from `functions`."""
    if operator(value) != "call_tir":
        return value
    target = builder.add_func(functions[value.args[0]], value.args[0].name_hint)
    return relax.Call(value.op, [target, *value.args[1:]], value.attrs, value.ty_args)


def _weight_operand(graph: Graph, value: Expr) -> Expr | None:
    """Give the operand that is a weight where it is stored."""
    match operator(value):
        case "nn.conv2d" | "matmul":
            return value.args[1]
        case "take":
            return value.args[0]
        case "call_tir" if isinstance(read_operator(graph.mod, value), GatherRows):
            return call_arguments(value)[0]
        case "call_tir" if read_cell(graph.mod, value) is not None:
            return call_arguments(value)[1]
        case _:
            return None


def _chain(graph: Graph, head: Expr) -> WeightChain:
    reached: set[Expr] = {head}
    bindings = []
    for var, value in reversed(graph.bindings):
        if var in reached:
            bindings.append((var, value))
            reached.update(operands(value))
    bindings.reverse()
    read = [operand for _, value in bindings for operand in operands(value)]
    constants = {var: graph.weights[var] for var in dict.fromkeys(read) if var in graph.weights}
    names = [var.name for var in constants]
    values = next((name for name in names if ".values" in name), names[0])
    layer = values.partition(".values")[0]
    return WeightChain(layer, tuple(bindings), constants)
