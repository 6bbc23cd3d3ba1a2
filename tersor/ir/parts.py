"""Parts: all that is a layer in a network, of whatever kind, in the order of the network."""

from functools import partial

from tersor.ir.chains import Chain, Gather, Product, any_weight, find_chains, find_gathers, find_products
from tersor.ir.graph import Graph
from tersor.ir.recurrent import Recurrence, find_recurrences

Part = Chain | Gather | Product | Recurrence


def find_parts(graph: Graph) -> list[Part]:
    """Find all layers, whether their weights are stored in float or as codes."""
    position = {var: i for i, (var, _) in enumerate(graph.bindings)}
    named = partial(any_weight, graph)
    parts: list[Part] = [
        *find_chains(graph, named),
        *find_gathers(graph, named),
        *find_products(graph, named),
        *find_recurrences(graph),
    ]
    return sorted(parts, key=lambda part: position[part.variables[0]])
