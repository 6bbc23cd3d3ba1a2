"""Extract: read the network (layers and the tensors between them) off a canonical Relax module."""

from collections import Counter
from math import prod

import tvm

from tersor.ir.chains import Chain, Gather, Product
from tersor.ir.graph import Expr, Graph, operands, operator, shape_of
from tersor.ir.loop_nest import layer_of_call
from tersor.ir.parts import Part, find_parts
from tersor.ir.recurrent import Recurrence
from tersor.layer import Layer
from tersor.network import Edge, Network

_MOVERS = ("reshape", "permute_dims", "concat", "strided_slice", "split", "squeeze", "expand_dims", "flatten")


def extract(mod: tvm.IRModule) -> Network:
    """Give the network of a module; a weight used several times is one layer."""
    graph = Graph(mod)
    parts = find_parts(graph)
    layers: dict[str, Layer] = {}
    for part in parts:
        layers.setdefault(part.layer, layer_of(part))
    movers = tuple(var.name for var, value in graph.bindings if operator(value) in _MOVERS)
    return Network(tuple(layers.values()), tuple(_edges(graph, parts)), (), movers, _others(graph, parts))


def layer_of(part: Part) -> Layer:
    """Describe a layer's operator as a loop nest."""
    match part:
        case Chain():
            padding = part.attributes.padding if part.operator == "nn.conv2d" else (0, 0, 0, 0)
            return layer_of_call(part.layer, part.call, padding)
        case Gather():
            rows, width = shape_of(part.table)
            return Layer(part.layer, "gather", N=max(1, prod(shape_of(part.indices))), K=width, C=rows)
        case Product():
            *batch, rows, columns = shape_of(part.result)
            inner = shape_of(part.left)[-1]
            return Layer(
                part.layer, "matmul", N=rows, G=max(1, prod(batch)), K=columns, C=inner, weight_bearing=False
            )
        case Recurrence():
            steps, batch, size = shape_of(part.gates)
            return Layer(part.layer, "matmul", N=steps * batch, K=size, C=part.cell.hidden, recurrent=True)


def _others(graph: Graph, parts: list[Part]) -> tuple[str, ...]:
    """Name the operators that are neither moves of data nor in a layer (`add`, `nn.softmax`), each time."""
    inside = {var for part in parts for var in part.variables}
    named = [operator(value) for var, value in graph.bindings if var not in inside]
    return tuple(name for name in named if name and name not in _MOVERS)


def tensor_names(mod: tvm.IRModule) -> dict[Expr, str]:
    """Name every tensor between the parts of a network, independent of how the variables are numbered.

    An input has its own name, a layer's result is `<layer>:out`, any other result is its operator's name and
    a count. Tensors inside a layer's chain (before its bias or activation) have no name.
    """
    graph = Graph(mod)
    parts = find_parts(graph)
    inside = {var for part in parts for var in part.variables[:-1]}
    results = {part.result: f"{part.layer}:out" for part in parts}
    names = {var: var.name for var in graph.inputs}
    seen: Counter[str] = Counter()
    for var, value in graph.bindings:
        if var in inside or not hasattr(var.ty, "shape"):
            continue
        base = results.get(var) or operator(value) or "call"
        seen[base] += 1
        names[var] = base if base == results.get(var) and seen[base] == 1 else f"{base}.{seen[base]}"
    return names


def _edges(graph: Graph, parts: list[Part]) -> list[Edge]:
    """Give the tensor edges between layers; what lies between them is walked through."""
    producer: dict[Expr, tuple[str, ...]] = {var: (var.name,) for var in graph.inputs}
    owner = {var: part for part in parts for var in part.variables}
    edges: dict[Edge, None] = {}
    for var, value in graph.bindings:
        part = owner.get(var)
        if part is None:
            producer[var] = _sources(graph, producer, value)
            continue
        if not var.same_as(part.result):
            continue
        for source in part.reads:
            for name in producer.get(source, ()):
                edges.setdefault(Edge(name, part.layer, shape_of(source)))
        producer[var] = (part.layer,)
    for output in graph.outputs:
        for name in producer.get(output, ()):
            edges.setdefault(Edge(name, "output", shape_of(output)))
    return list(edges)


def _sources(graph: Graph, producer: dict[Expr, tuple[str, ...]], value: Expr) -> tuple[str, ...]:
    names = [name for operand in operands(value) for name in producer.get(operand, ())]
    return tuple(dict.fromkeys(names))
