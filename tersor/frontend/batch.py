"""Set the leading dimension of a model's inputs: `x: [batch, 64]` -> `x: [8, 64]`, also where it is 1.

A graph exported for one sample may have its 1 in other places, too. Of those the targets of Reshape are
freed; whether that was all is found out by running the model as it was written beside the freed one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from tersor.error import UserError
from tersor.frontend.graph import Graph, first_line
from tersor.frontend.onnx_file import load_onnx
from tersor.frontend.onnx_import import static_model
from tersor.frontend.verification import TOLERANCE, random_inputs, relative_error, run_reference

BATCH = "tersor_batch"  # the name of a freed dimension


def batched_inputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """Name the inputs whose leading dimension is the batch: free, or else all in which it is 1."""
    inputs = Graph.read(model).inputs
    leading = {value.name: dims[0] for value in inputs if (dims := value.type.tensor_type.shape.dim)}
    free = tuple(name for name, dim in leading.items() if dim.dim_value < 1)
    return free or tuple(name for name, dim in leading.items() if dim.dim_value == 1)


def with_batch(
    source: str | Path | onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    outputs: Sequence[str] | None,
    batch: int,
    check: bool = True,
) -> onnx.ModelProto:
    """Return the model with static shapes (see `static_model`) and the leading dimensions set to `batch`.

    Raises UserError if no input has one, or if the model means something else with another one.
    """
    model = load_onnx(source)
    names = batched_inputs(model)
    if batch < 1 or not names:
        reason = "no input of the model has a leading dimension that is free or 1"
        raise UserError(f"--batch {batch}: {reason if not names else 'it must be at least 1'}")
    single = static_model(model, _leading(model, names, shapes, 1), outputs)
    if batch == 1:
        return single
    fixed = any(
        value.name in names and value.type.tensor_type.shape.dim[0].dim_value == 1
        for value in Graph.read(model).inputs
    )
    try:
        freed = _freed(single, model, names) if fixed else model
        batched = static_model(freed, _leading(freed, names, shapes, batch), outputs)
    except UserError as error:
        if not fixed:
            raise
        raise _refusal(batch, str(error)) from error
    if fixed and check:
        _compare(single, batched, names, batch)
    return batched


def _leading(
    model: onnx.ModelProto, names: Sequence[str], shapes: Mapping[str, Sequence[int]], batch: int
) -> dict[str, Sequence[int]]:
    """Put the batch in front of the given shapes, and of those without a free dimension but the leading."""
    leading = dict(shapes)
    for value in Graph.read(model).inputs:
        rest = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
        if value.name in names and (value.name in shapes or all(size > 0 for size in rest)):
            leading[value.name] = (batch, *(list(shapes[value.name])[1:] if value.name in shapes else rest))
    return leading


def _freed(single: onnx.ModelProto, model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Free the leading dimension of the inputs, and of reshapes that keep it at 1."""
    graph = Graph.read(model)
    shapes = Graph.read(single).inferred()
    inputs = []
    for value in graph.inputs:
        freed = onnx.ValueInfoProto()
        freed.CopyFrom(value)
        if value.name in names:
            freed.type.tensor_type.shape.dim[0].dim_param = BATCH
        inputs.append(freed)
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        target = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        shape = shapes.shape(node.input[0]) if node.input else None
        if target is not None and target.size and target.flat[0] == 1 and shape and shape[0] == 1:
            name = f"{node.output[0]}.{BATCH}"
            constants[name] = np.concatenate([np.zeros(1, np.int64), target.ravel()[1:]])  # 0: as it is
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[1] = name
            node = copy
        nodes.append(node)
    return replace(graph, inputs=tuple(inputs), constants=constants, nodes=tuple(nodes)).model()


def _compare(single: onnx.ModelProto, batched: onnx.ModelProto, names: Sequence[str], batch: int) -> None:
    """Run the first and the last row of a batch by themselves, too. Raises UserError if they differ."""
    wanted = [value.name for value in single.graph.output]
    inputs = random_inputs(batched)
    try:
        together = run_reference(batched, inputs, wanted)
    except Exception as error:  # a shape that onnx cannot check meets its operator
        raise _refusal(batch, first_line(error)) from error
    for row in (0, batch - 1):
        one = {name: array[row : row + 1] if name in names else array for name, array in inputs.items()}
        for name, expected in run_reference(single, one, wanted).items():
            got = together[name]
            if got.ndim == 0 or got.shape[0] != batch:
                raise _refusal(batch, f"its output {name!r} would have the shape {list(got.shape)}")
            if relative_error(got[row : row + 1], expected) > TOLERANCE:
                raise _refusal(batch, f"its output {name!r} would change")


def _refusal(batch: int, reason: str) -> UserError:
    return UserError(
        f"--batch {batch}: the graph is written for a leading dimension of 1 and cannot take another, "
        f"{reason}: export the model with a dynamic batch"
    )
