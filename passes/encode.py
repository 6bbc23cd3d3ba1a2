"""Encode: store the weights in the formats of their schemes, decoded where they are used.

    conv2d(x, w)   ->   conv2d(x, arrange(scale(place(unpack(values), positions), scales)))

What is decoded is what was rounded, bit for bit: int8 codes, or float32 for kernels that compute in float.
Dense int8 codes are their own format and stay as they are.
"""

from collections.abc import Mapping

import numpy as np

from tersor.formats.encoded import Encoded
from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of
from tersor.ir.chains import find_chains
from tersor.ir.decoders import emit_decoders
from tersor.ir.graph import Builder, Expr, Graph, Module, operands, rebind
from tersor.passes.quantization.weights import stored
from tersor.scheme import Scheme
from tersor.sparsity import Channels


def encode(mod: Module, encoded: Mapping[str, Encoded]) -> Module:
    """Replace the weights that are stored in another form than they are read; `encoded` is by layer."""
    graph = Graph(mod)
    packed = {
        var: encoded[var.name]
        for var, weight in graph.weights.items()
        if var.name in encoded and not encoded[var.name].is_plain and _is(encoded[var.name], weight)
    }
    if not packed:
        return mod
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    for var, weight in graph.weights.items():
        if var not in packed:
            values[var] = builder.weight(var.name, weight)
    for var, value in graph.bindings:
        for operand in operands(value):
            if operand in packed and operand not in values:
                values[operand] = emit_decoders(builder, operand.name, packed[operand])
        values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs])


def thinned_floats(mod: Module, schemes: Mapping[str, Scheme]) -> dict[str, Encoded]:
    """Store the weights that are thinned and not rounded, by layer. Raises UserError as `stored` does."""
    graph = Graph(mod)
    found = {}
    for chain in find_chains(graph):
        scheme = schemes.get(chain.layer, Scheme())
        if scheme.weight is None and scheme.sparsity and not isinstance(scheme.sparsity, Channels):
            weight, axis = graph.weights[chain.weight], 0 if chain.operator == "nn.conv2d" else 1
            matrix = matrix_of(weight, axis)
            grid = fit(matrix, None, integer=False)
            found[chain.layer] = stored(chain.layer, matrix, grid, scheme, weight.shape, axis)
    return found


def _is(encoded: Encoded, weight: np.ndarray) -> bool:
    """Whether a weight is what decoding gives; a float one beside the codes of its layer is not."""
    decoded = encoded.decode()
    return decoded.dtype == weight.dtype and np.array_equal(decoded, weight)
