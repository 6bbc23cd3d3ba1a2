"""ONNX's LSTM and GRU: one weight per direction, named, in the gate order of `tersor.frontend.recurrent`.

    LSTM(x, W [D, 4H, I], R [D, 4H, H], B [D, 8H], lens, h, c)
        ->  LSTM(x, h, c, weight_ih [I, 4H], weight_hh [H, 4H], bias [4H], ..._reverse)

The node on the right is ours: the importer reads it, onnx itself would not.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.frontend.graph import Graph, attributes, title
from tersor.frontend.recurrent import gru, lstm
from tersor.frontend.weights import module_of
from tersor.ir.graph import shape_of
from tersor.ir.untyped import relax

Array = NDArray[Any]
RECURRENT = ("LSTM", "GRU")
ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
# Where ONNX's blocks of gates (input, output, forget, cell; update, reset, candidate) stand in our order.
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}


def separate_directions(graph: Graph) -> Graph:
    """Rewrite every LSTM and GRU; raise UserError naming the node that has what is not supported."""
    if not any(node.op_type in RECURRENT for node in graph.nodes):
        return graph
    for node in graph.nodes:
        if node.op_type in RECURRENT:
            _check(node, graph)
    weights = _Weights(graph)
    nodes = tuple(
        _rewritten(node, graph, weights) if node.op_type in RECURRENT else node for node in graph.nodes
    )
    return replace(graph, nodes=nodes, constants=weights.constants).pruned()


def convert(builder: Any, kind: str, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Emit a rewritten node in Relax; give the tuple of its outputs, [T, D, B, H] and [D, B, H]."""
    directions = _directions(attrs.get("direction", b"forward").decode())
    x, *states = list(inputs)[: 3 if kind == "LSTM" else 2]
    weights = list(inputs)[1 + len(states) :]
    count = len(weights) // len(directions)
    results = []
    for d, reverse in enumerate(directions):
        own = weights[d * count : (d + 1) * count]
        start = [None if state is None else _pick(builder, state, d) for state in states]
        if kind == "LSTM":
            results.append(lstm(builder, x, *own, *start, reverse=reverse))
        else:
            results.append(gru(builder, x, *own, *start, reverse=reverse))
    y, *last = zip(*results, strict=True)
    outputs = [_stack(builder, y, 1), *(_stack(builder, each, 0) for each in last)]
    return relax.Tuple(outputs)


def _pick(builder: Any, state: Any, direction: int) -> Any:
    """Give the state [B, H] of a direction from [D, B, H]."""
    count, *shape = shape_of(state)
    if count > 1:
        state = builder.emit(relax.op.strided_slice(state, [0], [direction], [direction + 1]))
    return builder.emit(relax.op.reshape(state, shape))


def _stack(builder: Any, parts: Any, axis: int) -> Any:
    expanded = [builder.emit(relax.op.expand_dims(part, axis)) for part in parts]
    return expanded[0] if len(expanded) == 1 else builder.emit(relax.op.concat(expanded, axis))


def _directions(direction: str) -> tuple[bool, ...]:
    return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]


def _check(node: onnx.NodeProto, graph: Graph) -> None:
    """Raise UserError for the first thing about a node that is not supported."""
    reason = next(_objections(node, graph), None)
    if reason is not None:
        raise UserError(f"the {node.op_type} {title(node)} is not supported: {reason}")


def _objections(node: onnx.NodeProto, graph: Graph) -> Iterator[str]:
    given = attributes(node)
    direction = str(given.get("direction", "forward"))
    if direction not in ("forward", "reverse", "bidirectional"):
        yield f"its direction {direction!r} is unknown"
    names = [*node.input, *[""] * 8]
    activations = tuple(given.get("activations") or ())  # pyright: ignore[reportArgumentType]
    chosen = [each.decode() if isinstance(each, bytes) else str(each) for each in activations]
    if chosen and chosen != list(ACTIVATIONS[node.op_type]) * len(_directions(direction)):
        yield f"it has the activations {', '.join(chosen)}, and only the usual ones are"
    if "clip" in given:
        yield "it clips its gates"
    if given.get("layout", 0):
        yield "its layout 1 has the batch first"
    if given.get("input_forget", 0):
        yield "its input and forget gates are coupled"
    if node.op_type == "LSTM" and names[7]:
        yield "it has peepholes"
    if names[4] and not _runs_fully(graph, node.input[0], names[4]):
        yield "the lengths of its sequences vary"
    for what, name in zip(("weight", "recurrent weight", "bias"), names[1:4], strict=True):
        if name and name not in graph.constants:
            yield f"its {what} {name!r} is computed"


def _runs_fully(graph: Graph, x: str, lengths: str) -> bool:
    shape, values = graph.shape(x), graph.constants.get(lengths)
    return shape is not None and values is not None and bool(np.all(values == shape[0]))


class _Weights:
    """The new weights, each made once for all nodes that share it, named after the first of them.

    A second layer of the same module gets torch's suffix: `lstm.weight_hh`, `lstm.weight_hh_l1_reverse`.
    """

    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self._source = graph.constants
        self._names: dict[tuple[str, ...], str] = {}
        self._taken = {*graph.constants, *(value.name for value in graph.inputs)}

    def of(self, node: onnx.NodeProto, d: int, suffix: str) -> list[str]:
        """Make the weights of one direction; give their names, an empty one for what it does without."""
        kind, options = node.op_type, attributes(node)
        w, r, b = (*node.input[1:4], "", "")[:3]
        order, hidden = GATES[kind], self._source[r].shape[-1]

        def gates(values: Array) -> Array:
            blocks = values.reshape(len(order), hidden, -1)
            return np.concatenate([blocks[i] for i in order])

        names = [
            self._name(node, "weight_ih", (w, str(d)), suffix, gates(self._source[w][d]).T),
            self._name(node, "weight_hh", (r, str(d)), suffix, gates(self._source[r][d]).T),
        ]
        stored = self._source[b][d] if b else np.zeros(2 * len(order) * hidden, np.float32)
        outer, inner = (gates(half).ravel() for half in np.split(stored, 2))
        after = kind == "GRU" and bool(options.get("linear_before_reset", 0))
        if after:
            inner, candidate = inner.copy(), inner[-hidden:].copy()
            inner[-hidden:] = 0
            names.append(self._name(node, "bias", (b, w, str(d)), suffix, outer + inner))
            names.append(self._name(node, "bias_hh", (b, r, str(d)), suffix, candidate))
            return names
        names.append(self._name(node, "bias", (b, w, str(d)), suffix, outer + inner) if b else "")
        return [*names, ""] if kind == "GRU" else names

    def _name(
        self, node: onnx.NodeProto, role: str, source: tuple[str, ...], suffix: str, value: Array
    ) -> str:
        key = (role, *source)
        if key not in self._names:
            stem = module_of(node.name) or node.name or next(filter(None, node.output))
            name, level = f"{stem}.{role}{suffix}", 0
            while name in self._taken:
                level += 1
                name = f"{stem}.{role}_l{level}{suffix}"
            self._names[key] = name
            self._taken.add(name)
            self.constants[name] = np.ascontiguousarray(value)
        return self._names[key]


def _rewritten(node: onnx.NodeProto, graph: Graph, weights: _Weights) -> onnx.NodeProto:
    names = [*node.input, *[""] * 8]
    states = names[5:7] if node.op_type == "LSTM" else names[5:6]
    given = ["" if _is_zero(graph.constants.get(name)) else name for name in states]
    directions = _directions(str(attributes(node).get("direction", "forward")))
    own = [
        name
        for d, _ in enumerate(directions)
        for name in weights.of(node, d, "_reverse" if directions[d] else "")
    ]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [node.input[0], *given, *own]
    return copy


def _is_zero(value: Array | None) -> bool:
    return value is not None and not value.any()
