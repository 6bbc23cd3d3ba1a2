"""Choose the outputs of an ONNX graph: any tensor may become one, and what no output needs is dropped."""

import difflib
from collections.abc import Sequence
from dataclasses import replace

from tersor.error import UserError
from tersor.frontend.graph import Graph

SHOWN = 10


def select_outputs(graph: Graph, outputs: Sequence[str] | None) -> Graph:
    """Return the graph with the named tensors as its outputs (its own outputs for None)."""
    if outputs is None:
        return graph.pruned()
    if not outputs:
        raise UserError("name at least one output")
    made = [name for node in graph.nodes for name in node.output if name]
    for name in outputs:
        if name not in made:
            raise UserError(f"the model has no tensor {name!r}; {_candidates(name, made, graph.outputs)}")
    return replace(graph, outputs=tuple(dict.fromkeys(outputs))).pruned()


def _candidates(name: str, made: Sequence[str], outputs: Sequence[str]) -> str:
    if len(made) <= SHOWN:
        return f"candidates are {', '.join(map(repr, made))}"
    near = difflib.get_close_matches(name, made, n=SHOWN, cutoff=0.4)
    shown = list(dict.fromkeys([*outputs[:3], *near, *made]))[:SHOWN]
    return f"candidates are {', '.join(map(repr, shown))}, and {len(made) - len(shown)} more"
