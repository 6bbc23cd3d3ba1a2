"""Decompose: factor the weight of dense layers.

    matmul(x, w) + b   ->   matmul(matmul(x, u), v) + b

The factors are layers of their own, named `<layer>.0` and `<layer>.1`; the rest of the scheme holds for both.
"""

from collections.abc import Mapping
from dataclasses import replace

from tersor.error import UserError
from tersor.factor import LowRank
from tersor.ir.chains import find_chains
from tersor.ir.graph import Builder, Expr, Graph, Module, rebind
from tersor.ir.untyped import relax
from tersor.passes.decomposition.svd import truncated_svd
from tersor.scheme import Scheme


def decompose(mod: Module, schemes: Mapping[str, Scheme]) -> tuple[Module, dict[str, Scheme]]:
    """Factor the layers whose scheme has a rank; give the module and the schemes of its layers.

    Raises UserError for a rank on a layer that is not dense.
    """
    if not any(scheme.factor for scheme in schemes.values()):
        return mod, dict(schemes)
    graph, builder = Graph(mod), Builder(Graph(mod))
    heads = {chain.variables[0]: chain for chain in find_chains(graph)}
    factored = {chain.layer for chain in heads.values() if schemes.get(chain.layer, Scheme()).factor}
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    for var, weight in graph.weights.items():
        if var.name not in factored:
            values[var] = builder.weight(var.name, weight)
    for var, value in graph.bindings:
        chain = heads.get(var)
        if chain is None or chain.layer not in factored:
            values[var] = builder.emit(rebind(value, values), var.name)
            continue
        low_rank = schemes[chain.layer].factor
        if not isinstance(low_rank, LowRank) or chain.operator != "matmul":
            raise UserError(f"the layer {chain.layer!r} is no dense layer: remove the rank from its scheme")
        left, right = truncated_svd(graph.weights[chain.weight], low_rank.rank)
        inner = relax.op.matmul(values[chain.data], builder.weight(f"{chain.layer}.0", left))
        outer = relax.op.matmul(builder.emit(inner), builder.weight(f"{chain.layer}.1", right))
        values[var] = builder.emit(outer, var.name)
    return builder.finish([values[output] for output in graph.outputs]), _of_factors(schemes, factored)


def _of_factors(schemes: Mapping[str, Scheme], factored: set[str]) -> dict[str, Scheme]:
    result = {name: scheme for name, scheme in schemes.items() if name not in factored}
    for name in factored:
        rest = replace(schemes[name], factor=None)
        result[f"{name}.0"] = result[f"{name}.1"] = rest
    return dict(sorted(result.items()))
