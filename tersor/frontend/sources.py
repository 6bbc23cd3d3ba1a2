"""Import a model from whatever it is given as: an ONNX model, or a module of PyTorch with example inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import tvm

from tersor.error import UserError
from tersor.frontend import onnx_import
from tersor.frontend.torch_import import Examples, TorchImport, import_torch, is_torch_module


def import_model(
    source: Any,
    shapes: Mapping[str, Sequence[int]] | Examples | None = None,
    outputs: Sequence[str] | None = None,
    verify: bool = False,
    *,
    example_inputs: Examples | None = None,
) -> tvm.IRModule:
    """Return a module whose `main` is one dataflow block over static shapes, in canonical form.

    `source` is an ONNX model or its file (`onnx_import.import_model` has the other arguments), or a
    torch.nn.Module with `example_inputs`, second or by name (`torch_import.import_torch`), which is always
    verified against PyTorch. The first `num_input` parameters of `main` are the model's inputs, the others
    its weights under their names; the attributes `num_input` and `params` say how many and hold the values.

    Raises UserError for what cannot be imported, or what then computes something else than the model.
    """
    if example_inputs is None and not is_torch_module(source):
        onnx_source: str | Path | onnx.ModelProto = source
        given: Any = shapes
        return onnx_import.import_model(onnx_source, given, outputs, verify)
    if example_inputs is None:
        example_inputs, shapes = shapes, None  # pyright: ignore[reportAssignmentType]
    imported = from_torch(source, example_inputs, shapes, outputs)
    imported.verify()
    return imported.mod


def from_torch(module: Any, example_inputs: Examples | None, shapes: Any, outputs: Any) -> TorchImport:
    """Import a torch.nn.Module, and refuse what is for ONNX models alone."""
    if shapes is not None or outputs is not None:
        raise UserError(
            "shapes, batch and outputs are for ONNX models: a torch module has those of its examples"
        )
    if example_inputs is None:
        raise UserError("importing a torch module needs example_inputs: a tuple of tensors, or a dictionary")
    return import_torch(module, example_inputs)
