"""Every graph compresses, or falls back with reasons, or is refused in a sentence; nothing else happens."""

from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import Compiled, Model
from tersor.error import UserError
from tests.corpus import convolutions, elements, mixing, products, refusals, structures, transformers
from tests.corpus.drawing import Graph, Refusal

GRAPHS = (
    *convolutions.GRAPHS,
    *mixing.GRAPHS,
    *transformers.GRAPHS,
    *elements.GRAPHS,
    *products.GRAPHS,
    *structures.GRAPHS,
)
SAMPLES = 4


def samples(model: Model, below: int) -> list[dict[str, np.ndarray]]:
    """Draw unit normals, and whole numbers below `below` where an input takes those."""
    random = np.random.default_rng(0)

    def draw(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        whole = not dtype.startswith("float")
        return (random.integers(0, below, shape) if whole else random.normal(size=shape)).astype(dtype)

    return [
        {name: draw(shape, dtype) for name, (shape, dtype) in model.inputs.items()} for _ in range(SAMPLES)
    ]


def compressed(graph: Graph) -> tuple[Model, Compiled]:
    model = tersor.load_model(graph.build())  # compared with a reference executor
    return model, tersor.compile(model, samples(model, graph.below), measure=False)


def check(graph: Graph) -> None:
    model, compiled = compressed(graph)
    report = compiled.report
    for sample in samples(model, graph.below):
        assert all(np.isfinite(output).all() for output in compiled(sample))
    assert report.totals.snr_db is not None
    assert report.totals.snr_db >= graph.floor
    assert [fallback.operator for fallback in report.fallbacks] == list(graph.fallbacks)
    assert len(report.layers) == graph.layers
    assert {layer.scheme for layer in report.layers} <= {"int8", "w8a32"}  # tables are looked up as they are


def parameter(graph: Graph) -> Any:
    return pytest.param(graph, id=graph.name, marks=[pytest.mark.slow] if graph.slow else [])


@pytest.mark.parametrize("graph", [parameter(graph) for graph in GRAPHS])
def test_a_graph_compresses(graph: Graph) -> None:
    check(graph)


@pytest.mark.parametrize("refusal", refusals.REFUSALS, ids=lambda refusal: refusal.name)
def test_a_graph_is_refused_in_a_sentence(refusal: Refusal) -> None:
    with pytest.raises(UserError) as caught:
        tersor.load_model(refusal.build())
    message = str(caught.value)
    assert refusal.says in message
    assert len(message.splitlines()) == 1
