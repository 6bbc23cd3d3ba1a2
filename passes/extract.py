"""Extract: read the network (layers and the tensors between them) off a canonical Relax module."""

from collections import Counter
from math import prod

import tvm

from tersor.ir.chains import Chain, any_weight, find_chains
from tersor.ir.graph import Expr, Graph, operands, operator, shape_of
from tersor.layer import Layer
from tersor.network import Edge, Network

_MOVERS = ("reshape", "permute_dims", "concat", "strided_slice", "split", "squeeze", "expand_dims", "flatten")


def extract(mod: tvm.IRModule) -> Network:
    """Give the network of a module; a weight used several times is one layer."""
    graph = Graph(mod)
    chains = find_chains(graph, lambda expr: any_weight(graph, expr))
    layers: dict[str, Layer] = {}
    for chain in chains:
        layers.setdefault(chain.layer, layer_of(chain))
    for name, var, value in _free_products(graph, chains):
        layers[name] = _product_layer(name, var, value)
    movers = tuple(var.name for var, value in graph.bindings if operator(value) in _MOVERS)
    return Network(tuple(layers.values()), tuple(_edges(graph, chains)), (), movers)


def layer_of(chain: Chain) -> Layer:
    """Describe a chain's operator as a loop nest."""
    out = shape_of(chain.variables[0])
    weight = shape_of(chain.weight)
    if chain.operator == "matmul":
        rows = 1
        for extent in out[:-1]:
            rows *= extent
        return Layer(chain.layer, "matmul", N=rows, K=weight[1], C=weight[0])
    attributes = chain.attributes
    groups = int(attributes.groups)
    return Layer(
        chain.layer,
        "conv2d",
        N=out[0],
        G=groups,
        K=weight[0] // groups,
        C=weight[1],
        P=out[2],
        Q=out[3],
        R=weight[2],
        S=weight[3],
        stride=_two(attributes.strides),
        padding=_four(attributes.padding),
        dilation=_two(attributes.dilation),
    )


def tensor_names(mod: tvm.IRModule) -> dict[Expr, str]:
    """Name every tensor between the parts of a network, independent of how the variables are numbered.

    An input has its own name, a layer's result is `<layer>:out`, any other result is its operator's name and
    a count. Tensors inside a layer's chain (before its bias or activation) have no name.
    """
    graph = Graph(mod)
    chains = find_chains(graph, lambda expr: any_weight(graph, expr))
    inside = {var for chain in chains for var in chain.interior}
    results = {chain.result: f"{chain.layer}:out" for chain in chains}
    names = {var: var.name for var in graph.inputs}
    seen: Counter[str] = Counter()
    for var, value in graph.bindings:
        if var in inside or not hasattr(var.ty, "shape"):
            continue
        base = results.get(var) or operator(value) or "call"
        seen[base] += 1
        names[var] = base if base == results.get(var) and seen[base] == 1 else f"{base}.{seen[base]}"
    return names


def _edges(graph: Graph, chains: list[Chain]) -> list[Edge]:
    """Give the tensor edges between layers; what lies between them is walked through."""
    producer: dict[Expr, tuple[str, ...]] = {var: (var.name,) for var in graph.inputs}
    owner = {var: chain for chain in chains for var in chain.variables}
    edges: dict[Edge, None] = {}
    for var, value in graph.bindings:
        chain = owner.get(var)
        if chain is None:
            producer[var] = _sources(graph, producer, value)
            continue
        if not var.same_as(chain.result):
            continue
        for source in (chain.data, chain.residual):
            for name in producer.get(source, ()) if source is not None else ():
                edges.setdefault(Edge(name, chain.layer, shape_of(source)))
        producer[var] = (chain.layer,)
    for output in graph.outputs:
        for name in producer.get(output, ()):
            edges.setdefault(Edge(name, "output", shape_of(output)))
    return list(edges)


def _sources(graph: Graph, producer: dict[Expr, tuple[str, ...]], value: Expr) -> tuple[str, ...]:
    names = [name for operand in operands(value) for name in producer.get(operand, ())]
    return tuple(dict.fromkeys(names))


def _free_products(graph: Graph, chains: list[Chain]) -> list[tuple[str, Expr, Expr]]:
    heads = {chain.variables[0] for chain in chains}
    products = [
        (var, value) for var, value in graph.bindings if operator(value) == "matmul" and var not in heads
    ]
    return [(f"matmul.{i}", var, value) for i, (var, value) in enumerate(products)]


def _product_layer(name: str, var: Expr, value: Expr) -> Layer:
    """Describe a product of two computed tensors; a vector is a matrix of one row or one column."""
    out, left, right = shape_of(var), shape_of(value.args[0]), shape_of(value.args[1])
    columns = 1 if len(right) == 1 else right[-1]
    rows = 1 if len(left) == 1 else left[-2]
    batch = max(1, prod(out) // (rows * columns))
    return Layer(name, "matmul", N=rows, G=batch, K=columns, C=left[-1], weight_bearing=False)


def _two(values: object) -> tuple[int, int]:
    first, second = (int(value) for value in values)  # pyright: ignore[reportGeneralTypeIssues]
    return first, second


def _four(values: object) -> tuple[int, int, int, int]:
    top, left, bottom, right = (int(value) for value in values)  # pyright: ignore[reportGeneralTypeIssues]
    return top, left, bottom, right
