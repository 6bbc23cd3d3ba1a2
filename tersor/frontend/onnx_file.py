"""Load an ONNX model from a file, check it, and bring it to an operator set that TVM's importer knows."""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import external_data_helper, inliner, version_converter

from tersor.error import UserError
from tersor.frontend.graph import first_line, title

OPSET = 17
OLDEST_AS_IS = 13  # since opset 13 axes, splits and bounds are inputs; only older models must be converted


def load_onnx(source: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """Return the model of at least opset 13, with its local functions inlined and its weights in memory."""
    if not isinstance(source, str | Path | onnx.ModelProto):
        raise UserError(f"a {type(source).__name__} is no model: give an ONNX model, its file or a module")
    model = _read(Path(source)) if isinstance(source, str | Path) else source
    if not model.HasField("graph") or not model.graph.node:
        raise UserError(f"{_origin(source)} is not an ONNX model: it holds no graph with nodes")
    if any(external_data_helper.uses_external_data(w) for w in model.graph.initializer):
        raise UserError(f"{_origin(source)} keeps weights in external files: load them into the model first")
    _check(model.graph, _origin(source))
    if model.functions:
        model = inliner.inline_local_functions(model)
    return _modern(model)


def _read(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise UserError(f"there is no model file {str(path)!r}")
    if path.is_dir():
        raise UserError(f"{str(path)!r} is a directory, not an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except Exception as error:
        raise UserError(f"{str(path)!r} is not an ONNX model, or it is truncated") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise UserError(
            f"the weights stored beside {str(path)!r} are missing: {first_line(error)}"
        ) from error
    return model


def _check(graph: onnx.GraphProto, origin: str) -> None:
    """Raise UserError unless all names are text and every tensor is made before it is read."""
    if not _all_text(graph):
        raise UserError(f"{origin} is damaged: it holds names that are no text")
    known = {value.name for value in [*graph.input, *graph.initializer]}
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                raise UserError(
                    f"the node {title(node)} reads {name!r}, a tensor that no node before it makes"
                )
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise UserError(f"the model's output {value.name!r} is made by no node")


def _all_text(message: Message) -> bool:
    """Look for text that is not UTF-8, which protobuf hands out as bytes, or refuses when it is read."""
    try:
        fields = message.ListFields()
    except UnicodeDecodeError:
        return False
    for descriptor, value in fields:
        values: Any = [value] if isinstance(value, str | bytes | Message) else value
        if descriptor.type == FieldDescriptor.TYPE_STRING and not all(isinstance(v, str) for v in values):
            return False
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE and not all(_all_text(v) for v in values):
            return False
    return True


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    versions = {opset.domain: opset.version for opset in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 1))
    if version >= OLDEST_AS_IS:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise UserError(
            f"the model's opset {version} cannot be converted to {OPSET} ({first_line(error)}): "
            f"export it again with opset {OPSET}"
        ) from error


def _origin(source: str | Path | onnx.ModelProto) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else "the model"
