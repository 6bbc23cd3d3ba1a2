"""Fallbacks: the operators of a canonical module that do the work of a layer and are none."""

from tersor.fallback import Fallback
from tersor.ir.graph import Expr, Graph, Module, operands, operator, shape_of
from tersor.passes.extract import extract, tensor_names

_MULTIPLIES = {
    "nn.conv1d": "its layout is not that of a layer",
    "nn.conv2d": "its weight is computed, or its layout is not that of a layer",
    "nn.conv3d": "convolutions in three dimensions have no integer kernel",
    "nn.conv1d_transpose": "transposed convolutions have no integer kernel",
    "nn.conv2d_transpose": "transposed convolutions have no integer kernel",
    "nn.conv3d_transpose": "transposed convolutions have no integer kernel",
    "matmul": "only one matrix on the right, or two computed ones, have an integer kernel",
    "einsum": "products over other axes than those of two matrices have no integer kernel",
}
_HOLDS = {"take": "only rows of a table that nothing else reads are looked up in integers"}
_OTHERWISE = "only weights of convolutions and matrix products, and tables, are compressed"


def find_fallbacks(mod: Module) -> tuple[Fallback, ...]:
    """List, in order, what multiplies and accumulates or holds a weight outside the layers of `extract`.

    A vector, such as the gain of a norm or a factor for each channel, does not count as a weight.
    """
    graph, names = Graph(mod), tensor_names(mod)
    layers = {layer.name for layer in extract(mod).layers}
    found = []
    for var, value in graph.bindings:
        if var not in names or names[var].endswith(":out") or operator(value) in ("quantize", "dequantize"):
            continue  # inside a layer, at its end, or around one that was quantized elsewhere
        held = [
            weight for weight in operands(value) if _is_matrix(graph, weight) and weight.name not in layers
        ]
        kind = _kind(value)
        if reason := _MULTIPLIES.get(kind) or (_HOLDS.get(kind, _OTHERWISE) if held else None):
            found.append(Fallback(kind, held[0].name if held else names[var], reason))
    return tuple(found)


def _is_matrix(graph: Graph, expr: Expr) -> bool:
    return expr in graph.weights and sum(extent > 1 for extent in shape_of(expr)) > 1


def _kind(value: Expr) -> str:
    """Name an operator; one that the importer wrote as a loop nest has the name of its function."""
    is_nest = operator(value) == "call_tir"
    return value.args[0].name_hint.rstrip("0123456789") if is_nest else operator(value)
