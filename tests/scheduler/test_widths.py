from tersor.layer import Layer
from tersor.network import Edge, Network
from tersor.scheduler.widths import output_bits, readers
from tersor.scheme import Scheme

LAYERS = tuple(Layer(name, "matmul", K=8, C=8) for name in "abc")
EDGES = (
    Edge("input", "a", (1, 8)),
    Edge("a", "b", (1, 8)),
    Edge("a", "c", (1, 8)),
    Edge("b", "c", (1, 8)),
    Edge("c", "output", (1, 8)),
)
NETWORK = Network(LAYERS, EDGES)


def schemes(**texts: str) -> dict[str, Scheme]:
    return {name: Scheme.parse(text) for name, text in texts.items()}


def test_a_tensor_is_as_wide_as_its_widest_reader() -> None:
    assert output_bits(NETWORK, schemes(a="int8", b="int4", c="int8")) == {"a": 8, "b": 8}
    assert output_bits(NETWORK, schemes(a="int8", b="int4", c="w2a4")) == {"a": 4, "b": 4}
    assert output_bits(NETWORK, schemes(a="int4", b="fp32", c="int4")) == {"a": 32, "b": 4}


def test_inputs_and_outputs_of_the_model_are_no_layers() -> None:
    assert readers(NETWORK) == {"a": ("b", "c"), "b": ("c",)}
