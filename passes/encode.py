"""Encode: store integer weights in the format of their scheme, decoded where they are used.

    matmul(x, codes)   ->   matmul(x, decode(values, positions))

Dense int8 codes are their own format and stay as they are.
"""

from collections.abc import Mapping

from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operator, rebind, shape_of
from tersor.ir.operators import DecodeNM, prim_func
from tersor.scheme import Scheme
from tersor.sparsity import NM
from tersor.storage import encode_nm, index_bits


def encode(mod: Module, schemes: Mapping[str, Scheme]) -> Module:
    """Replace the codes of every layer that has a sparsity by its values and their positions."""
    graph = Graph(mod)
    sparse = {
        var: scheme.sparsity
        for var, codes in graph.weights.items()
        if (scheme := schemes.get(var.name))
        and isinstance(scheme.sparsity, NM)
        and str(codes.dtype) == "int8"
    }
    if not sparse:
        return mod
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    for var, weight in graph.weights.items():
        if var not in sparse:
            values[var] = builder.weight(var.name, weight)
    for var, value in graph.bindings:
        if operator(value) == "matmul" and value.args[1] in sparse:
            weight = value.args[1]
            if weight not in values:
                values[weight] = _emit_decode(builder, weight, graph.weights[weight], sparse[weight])
        values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs])


def _emit_decode(builder: Builder, var: Expr, codes: Array, sparsity: NM) -> Expr:
    kept, positions = encode_nm(codes, sparsity.n, sparsity.m, axis=0)
    arguments = [
        builder.weight(f"{var.name}.values", kept),
        builder.weight(f"{var.name}.positions", positions),
    ]
    step = DecodeNM(sparsity.n, sparsity.m, index_bits(sparsity))
    function = prim_func(step, *((shape_of(each), str(each.ty.dtype)) for each in arguments))
    return builder.call(function, step.name, arguments, codes.shape, step.output)
