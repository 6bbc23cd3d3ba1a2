from tersor.ir.chains import Chain, Gather, Product
from tersor.ir.graph import Graph
from tersor.ir.parts import find_parts
from tests.relax_modules import attention_net


def test_layers_of_all_kinds_come_in_the_order_of_the_network() -> None:
    graph = Graph(attention_net())
    parts = find_parts(graph)
    kinds = [type(part) for part in parts]
    assert kinds[0] is Gather
    assert kinds.count(Product) == 2
    assert kinds.count(Chain) == len(parts) - 3
    place = {var: i for i, (var, _) in enumerate(graph.bindings)}
    firsts = [place[part.variables[0]] for part in parts]
    assert firsts == sorted(firsts)
    assert all(part.variables[-1].same_as(part.result) for part in parts)


def test_a_part_reads_activations_and_no_weights() -> None:
    graph = Graph(attention_net())
    for part in find_parts(graph):
        assert part.reads
        assert not any(var in graph.weights for var in part.reads)
