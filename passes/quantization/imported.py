"""Imported: a network that came quantized, in the form that `quantize` gives its own.

    conv2d(dequantize(quantize(x)), w)   ->   conv2d(dequantize(quantize(x)), dequantize(codes of w))

The weight came as codes, too, and was canonicalized as the float values that they stand for: scaled by a
batch norm, transposed. Its codes are found again, with the scale that each output channel has by now. What is
on no grid that our integers have, stays float; `why_float` says why.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersor.ir.chains import Chain, codes_of_weight, find_chains
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operator, rebind
from tersor.ir.grid import grid_below
from tersor.ir.untyped import relax
from tersor.passes.canonicalize import Canonicalize
from tersor.passes.quantization.channel_grids import move_channel_grids
from tersor.passes.quantization.grids import normalize_grids
from tersor.passes.quantization.weights import dequantize_weight

# Of a channel's largest weight: what two roundings to float32 leave between a weight and scale * code.
TOLERANCE = 1e-6


def canonical_quantized(mod: Module, codes: Mapping[str, Array]) -> Module:
    """Bring an imported module to canonical form; what came quantized to that of `quantize`.

    `codes` are int8 by the name of a float weight, in the shape it was imported in.
    """
    canonicalize: Any = Canonicalize()  # a Pass, which only the decorator knows
    mod = canonicalize(mod)
    if not came_quantized(mod):
        return mod
    mod = canonicalize(normalize_grids(mod))
    return canonicalize(_restore(move_channel_grids(mod), codes))


def imported_layers(mod: Module) -> list[str]:
    """Name the layers whose weights are stored as codes, in order."""
    graph = Graph(mod)
    chains = find_chains(graph, lambda expr: codes_of_weight(graph, expr))
    return list(dict.fromkeys(chain.layer for chain in chains))


def why_float(mod: Module) -> dict[str, str]:
    """Say of every float layer of a model that came quantized what it is that kept it from the integers."""
    graph = Graph(mod)
    return {chain.layer: _why_float(graph, chain) for chain in find_chains(graph)}


def as_float(mod: Module, layers: Collection[str] | None = None) -> Module:
    """Give the named layers, by default all, float weights with the values that their codes stand for."""
    graph = Graph(mod)
    real = {
        var: value
        for var, value in graph.bindings
        if (name := codes_of_weight(graph, var)) is not None and (layers is None or name in layers)
    }
    if not real:
        return mod
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    stored = {argument for value in real.values() for argument in value.args[:2]}
    for var, value in graph.weights.items():
        if var not in stored or any(user not in real for user in graph.users(var)):
            values[var] = builder.weight(var.name, value)
    for var, value in graph.bindings:
        if var not in real:
            values[var] = builder.emit(rebind(value, values), var.name)
            continue
        codes, scale = (graph.value(argument) for argument in value.args[:2])
        assert codes is not None
        assert scale is not None
        weight = dequantize_weight(codes, scale, int(value.attrs.axis))
        values[var] = builder.weight(value.args[0].name, weight)
    return builder.finish([values[output] for output in graph.outputs])


@dataclass(frozen=True)
class _Weight:
    codes: Array  # int8
    scale: Array  # float32 [K]
    axis: int


def _restore(mod: Module, codes: Mapping[str, Array]) -> Module:
    """Replace float weights by their codes where the layer's input is on a grid."""
    graph = Graph(mod)
    found: dict[Expr, _Weight] = {}  # the operator's variable -> its weight
    for chain in find_chains(graph):
        weight = _find_codes(chain, graph.weights[chain.weight], codes)
        if weight is not None and grid_below(graph, chain.data) is not None:
            found[chain.variables[0]] = weight
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    for var, value in graph.weights.items():
        readers = graph.users(var)
        if any(user not in found for user in readers) or graph.is_output(var):
            shared = any(user in found for user in readers)
            values[var] = builder.weight(f"{var.name}.fp32" if shared else var.name, value)
    for var, value in graph.bindings:
        if (weight := found.get(var)) is not None:
            values[value.args[1]] = _emit(builder, value.args[1].name, weight)
        values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs])


def _emit(builder: Builder, name: str, weight: _Weight) -> Expr:
    stored, scales = builder.weight(name, weight.codes), builder.weight(f"{name}.scale", weight.scale)
    return builder.emit(relax.op.dequantize(stored, scales, relax.const(0, "int8"), weight.axis))


def _find_codes(chain: Chain, weight: Array, codes: Mapping[str, Array]) -> _Weight | None:
    """Find the codes that a weight came as, transposed or reshaped as it was, and its scales."""
    name = chain.layer if chain.layer in codes else chain.layer.rpartition(".")[0]
    if name not in codes or codes[name].size != weight.size:
        return None
    axis = 0 if chain.operator == "nn.conv2d" else 1
    came = codes[name]
    candidates = [came.reshape(weight.shape)]
    if came.ndim == 2:
        candidates.append(came.T.reshape(weight.shape))
    fits = (_fit(weight, candidate, axis) for candidate in candidates)
    return next((fit for fit in fits if fit is not None), None)


def _fit(weight: Array, codes: Array, axis: int) -> _Weight | None:
    """Give codes and scales whose products are the weight's values up to float32, or None."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    steps = np.moveaxis(codes, axis, 0).reshape(rows.shape).astype(np.float64)
    power = (steps**2).sum(axis=1)
    scale = (rows * steps).sum(axis=1) / np.where(power > 0, power, 1.0)
    allowed = TOLERANCE * np.abs(rows).max(axis=1)
    if (np.abs(rows - scale[:, None] * steps).max(axis=1) > allowed).any():
        return None
    # A sign that a batch norm has turned becomes the codes'; a channel of zeros has any scale.
    steps = np.where(scale[:, None] < 0, -steps, steps)
    scale = np.where(scale == 0, 1.0, np.abs(scale))
    if steps.max() > 127:
        return None
    moved = np.moveaxis(codes, axis, 0).shape
    signed = np.ascontiguousarray(np.moveaxis(steps.astype(np.int8).reshape(moved), 0, axis))
    return _Weight(signed, scale.astype(np.float32), axis)


def came_quantized(mod: Module) -> bool:
    """Whether a module has tensors on grids, which before any compression only the model can have."""
    return any(operator(value) == "quantize" for _, value in Graph(mod).bindings)


def _why_float(graph: Graph, chain: Chain) -> str:
    value = graph.definition(chain.data)
    if value is None or operator(value) != "dequantize":
        return "its input is not quantized in the model"
    if grid_below(graph, chain.data) is not None:
        return "its weight is not on int8 grids with the zero point 0 in the model"
    scale = graph.value(value.args[1])
    if scale is not None and scale.size > 1:
        return "its input has a scale per channel in the model, in a way that the weights cannot take up"
    dtype = value.args[0].ty.dtype
    return f"its input is quantized to {dtype} in the model, in a form that has no integer kernel"
