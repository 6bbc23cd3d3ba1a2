"""Import an ONNX model as one Relax module in canonical form, its weights as named inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import tvm

from tersor.frontend.fold import fold_constants
from tersor.frontend.graph import Graph
from tersor.frontend.importer import refuse_control_flow, to_relax
from tersor.frontend.onnx_file import load_onnx
from tersor.frontend.onnx_recurrent import separate_directions
from tersor.frontend.outputs import select_outputs
from tersor.frontend.quantized import by_name, dequantize_constants
from tersor.frontend.static_shapes import make_static, refuse_dynamic
from tersor.frontend.verification import verify as compare
from tersor.frontend.weights import constant_nodes, name_weights
from tersor.passes.quantization.imported import canonical_quantized


def import_model(
    source: str | Path | onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    verify: bool = False,
) -> tvm.IRModule:
    """Return a module whose `main` is one dataflow block over static shapes, in canonical form.

    Its first `num_input` parameters are the model's inputs, the others its weights under their names; the
    attributes `num_input` and `params` say how many and hold the values. `shapes` sets the dynamic dims of
    inputs, `outputs` chooses any tensors of the model as outputs. `verify` runs the module once, compiled
    plainly (seconds), and compares it with a reference executor.

    Raises UserError for a file that is no model, shapes that do not fit, unknown outputs, operators that
    TVM cannot import, and a module that computes something else than the model.
    """
    model = static_model(source, shapes, outputs)
    folded = separate_directions(fold_constants(Graph.read(model)))
    graph, quantized = dequantize_constants(folded)
    graph = name_weights(graph)
    mod = canonical_quantized(to_relax(graph.model(constant_nodes(graph))), by_name(graph, quantized))
    refuse_dynamic(mod)
    if verify:
        compare(mod, model)
    return mod


def static_model(
    source: str | Path | onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """Return the model with static input shapes and the chosen outputs, otherwise as it was written."""
    graph = select_outputs(Graph.read(load_onnx(source)), outputs)
    refuse_control_flow(graph)
    graph = make_static(graph, shapes or {})
    return graph.inferred(strict=True).model()
