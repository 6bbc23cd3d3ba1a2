"""Compare an imported module with a reference executor, and name the first tensor that differs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tvm
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from tvm import relax

from tersor.buckets import Bucket
from tersor.error import UserError
from tersor.frontend.fold import fold_constants
from tersor.frontend.graph import Graph, first_line, input_specs
from tersor.frontend.importer import to_relax
from tersor.frontend.onnx_recurrent import separate_directions
from tersor.frontend.outputs import select_outputs
from tersor.frontend.weights import constant_nodes
from tersor.passes.canonicalize import Canonicalize

Arrays = Mapping[str, NDArray[np.generic]]
Run = Callable[[tvm.IRModule, Arrays], Sequence[NDArray[np.generic]]]
TOLERANCE = 1e-4
# Sums in another order may round to the next code, and from there on differ by some more.
TOLERANCE_QUANTIZED = 5e-2


def verify(
    mod: tvm.IRModule,
    model: onnx.ModelProto,
    inputs: Arrays | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> float:
    """Return the largest |error| / max |reference| over the outputs, at most 1e-4.

    Of a model that rounds to integers, which amplifies the last bit of a float, it is at most 0.05.

    `model` is what `mod` was imported from, with static shapes (`static_model`); `run(mod, inputs)` returns
    the outputs in order and defaults to plain llvm code, which takes seconds for a network of images. Inputs
    are seeded unit normals unless given. Raises UserError naming the first diverging tensor.
    """
    run = run or run_plainly
    inputs = dict(inputs) if inputs is not None else random_inputs(model, seed)
    wanted = [value.name for value in model.graph.output]
    reference = run_reference(model, inputs, wanted)
    errors = {
        name: relative_error(result, reference[name])
        for name, result in zip(wanted, run(mod, inputs), strict=True)
    }
    worst = max(errors, key=lambda name: errors[name])
    tolerance = _tolerance(model)
    if errors[worst] <= tolerance:
        return errors[worst]
    name, error = _first_diverging(model, worst, inputs, run)
    raise UserError(
        f"the imported model computes something else than the ONNX model: the first tensor that differs is "
        f"{name!r}, by {error:.2g} of its largest value (allowed: {tolerance:g}); choose outputs before it"
    )


def _tolerance(model: onnx.ModelProto) -> float:
    rounds = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return TOLERANCE_QUANTIZED if rounds else TOLERANCE


def relative_error(result: NDArray[np.generic], reference: NDArray[np.generic]) -> float:
    """Return max |result - reference| / max |reference|; infinite for another shape or a lost or new NaN."""
    if result.shape != reference.shape:
        return np.inf
    if reference.dtype.kind not in "fc":
        return 0.0 if np.array_equal(result, reference) else np.inf
    agree = np.isfinite(result) & np.isfinite(reference)
    if not np.array_equal(result[~agree], reference[~agree], equal_nan=True):
        return np.inf
    if not agree.any():
        return 0.0
    error = np.abs(result[agree].astype(np.float64) - reference[agree].astype(np.float64)).max()
    scale = np.abs(reference[agree]).max()
    return float(error / scale) if scale else float(error)


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Draw unit normals for float inputs, 0 or 1 for others (indices and masks allow these everywhere)."""
    return Bucket("", input_specs(model)).draw(seed)


def run_reference(
    model: onnx.ModelProto, inputs: Arrays, wanted: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """Compute the named tensors with onnxruntime if it is installed, else with onnx's reference evaluator."""
    graph = select_outputs(Graph.read(model), wanted).inferred()
    extended = graph.model()
    feeds = {value.name: inputs[value.name] for value in graph.inputs}
    try:
        import onnxruntime
    except ImportError:
        return _evaluate(extended, feeds, wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The graph as written is the meaning, not what an optimizer made of it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            extended.SerializeToString(), options, ["CPUExecutionProvider"]
        )
    except Exception:  # an operator or type that only onnx itself knows
        return _evaluate(extended, feeds, wanted)
    results: Any = session.run(list(wanted), feeds)
    return dict(zip(wanted, results, strict=True))


def run_plainly(mod: tvm.IRModule, inputs: Arrays) -> list[NDArray[np.generic]]:
    """Compile with TVM's stock pipeline for llvm and run once."""
    detached, params = relax.frontend.detach_params(mod)
    values = params.get("main", [])
    executable = tvm.compile(detached, tvm.target.Target({"kind": "llvm"}))
    device: Any = tvm.cpu()
    machine = relax.VirtualMachine(executable, device)
    names = [var.name for var in mod["main"].params[: len(mod["main"].params) - len(values)]]
    result = machine["main"](
        *[tvm.runtime.tensor(np.ascontiguousarray(inputs[name])) for name in names], *values
    )
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [tensor.numpy() for tensor in results]


def _evaluate(model: onnx.ModelProto, feeds: Arrays, wanted: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    try:
        results: Any = ReferenceEvaluator(model).run(list(wanted), dict(feeds))
    except Exception as error:
        raise UserError(
            f"no reference executor can run the model ({first_line(error)}): "
            "install onnxruntime, or import without verification"
        ) from error
    return {name: np.asarray(result) for name, result in zip(wanted, results, strict=True)}


def _first_diverging(model: onnx.ModelProto, worst: str, inputs: Arrays, run: Run) -> tuple[str, float]:
    """Find the first tensor, in the order of the nodes, whose value differs after import."""
    graph = fold_constants(Graph.read(model))
    names = [name for node in graph.nodes for name in node.output if name]
    # One run shows all tensors, unless the fault lies in what canonicalization makes of several layers:
    # that leaves tensors apart which are outputs. Then one output at a time, by bisection.
    for name, error in _errors(model, names, inputs, run).items():
        if error > _tolerance(model):
            return name, error
    low, high = 0, names.index(worst) if worst in names else len(names) - 1
    while low < high:
        middle = (low + high) // 2
        differs = _errors(model, names[middle : middle + 1], inputs, run)[names[middle]] > _tolerance(model)
        low, high = (low, middle) if differs else (middle + 1, high)
    return names[high], _errors(model, names[high : high + 1], inputs, run)[names[high]]


def _errors(model: onnx.ModelProto, names: Sequence[str], inputs: Arrays, run: Run) -> dict[str, float]:
    """Import the model anew with these tensors as its outputs and compare them."""
    graph = separate_directions(fold_constants(select_outputs(Graph.read(model), names)))
    canonicalize: Any = Canonicalize()
    results = run(canonicalize(to_relax(graph.model(constant_nodes(graph)))), inputs)
    reference = run_reference(model, inputs, names)
    return {
        name: relative_error(result, reference[name]) for name, result in zip(names, results, strict=True)
    }
