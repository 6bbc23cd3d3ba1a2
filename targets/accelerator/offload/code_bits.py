"""Code bits: how many bits the codes of a tensor take on a machine, by what reads it in the integer graph.

Codes are bytes on the CPU. Layers read them in the bits of their schemes, the residual of a layer with its
input; the vector unit, and what stays on the CPU, in 8.
"""

from collections.abc import Mapping

from tersor.ir.graph import Expr, Graph, operands, operator
from tersor.ir.integer_layers import integer_layer
from tersor.scheme import INT8, Scheme

MOST_BITS = 8
# Their result has the codes of their operand, and no program moves them.
MOVERS = ("reshape", "permute_dims", "squeeze", "expand_dims", "flatten")


def code_bits(graph: Graph, schemes: Mapping[str, Scheme], decoded: Mapping[Expr, str]) -> dict[Expr, int]:
    """Give the bits of the widest reader of each tensor that has one.

    `schemes` are by layer, `decoded` names the layers of weights that are decoded from what is stored.
    """
    found: dict[Expr, int] = {}
    inside: set[Expr] = set()

    def ask(tensor: Expr, bits: int) -> None:
        found[tensor] = max(found.get(tensor, 0), bits)

    for output in graph.outputs:
        ask(output, MOST_BITS)
    for var, value in reversed(graph.bindings):
        if var in inside:
            continue
        layer = integer_layer(graph, var, value)
        if layer is not None:
            inside.update(layer.interior)
            name = decoded.get(layer.weight) or getattr(layer.weight, "name", "")
            bits = min(schemes.get(name, INT8).input_bits, MOST_BITS)
            for tensor in (layer.data, layer.residual):
                if tensor is not None:
                    ask(tensor, bits)
            continue
        bits = found.get(var, MOST_BITS) if operator(value) in MOVERS else MOST_BITS
        for tensor in operands(value):
            ask(tensor, bits)
    return found
