"""Give every input of an ONNX graph a static shape: `x: [batch, seq]` -> `x: [1, 32]`.

What then still has a size that only a run can tell is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
import tvm
from tvm import relax

from tersor.error import UserError
from tersor.frontend.graph import Graph
from tersor.ir.graph import operator

BATCH = re.compile(r"n|b|bs|batch.*", re.IGNORECASE)


def make_static(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """Fill dynamic dims from `shapes`, same-named dims of other inputs, or 1 for a leading batch dim."""
    names = [value.name for value in graph.inputs]
    if unknown := sorted(set(shapes) - set(names)):
        raise UserError(
            f"the model has no input {unknown[0]!r}; its inputs are {', '.join(map(repr, names))}"
        )
    for value in graph.inputs:
        if not value.type.HasField("tensor_type"):
            raise UserError(f"the input {value.name!r} is no tensor: only tensors can be inputs")
        if value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            raise UserError(f"the input {value.name!r} holds text: choose outputs that need only numbers")
    named = _named_dims(graph, shapes)
    return replace(
        graph, inputs=tuple(_static(value, shapes.get(value.name), named) for value in graph.inputs)
    )


def refuse_dynamic(mod: tvm.IRModule) -> None:
    """Raise UserError naming the first operator whose result has a size that depends on the data."""
    function: Any = mod["main"]
    for block in function.body.blocks:
        for binding in block.bindings:
            if not _is_static(binding.var.ty):
                name = operator(binding.value) or "custom function"
                raise UserError(
                    f"the size of what {name!r} gives depends on the data: choose outputs before it"
                )


def _is_static(kind: Any) -> bool:
    fields = getattr(kind, "fields", None)  # of a tuple
    if fields is not None:
        return all(_is_static(each) for each in fields)
    shape = kind.shape if isinstance(kind, relax.TensorType) else ()
    return shape is not None and all(isinstance(extent, tvm.tirx.IntImm) for extent in shape)


def _named_dims(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Collect what the given shapes say about dims that have a name, such as `seq`."""
    named: dict[str, int] = {}
    for value in graph.inputs:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes.get(value.name, ()), strict=False):
            if dim.dim_param and named.setdefault(dim.dim_param, size) != size:
                raise UserError(
                    f"the dim {dim.dim_param!r} of the input {value.name!r} is given as {size}, "
                    f"but another input's shape sets it to {named[dim.dim_param]}"
                )
    return named


def _static(
    value: onnx.ValueInfoProto, given: Sequence[int] | None, named: Mapping[str, int]
) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    if given is None:
        sizes = _implied(value, named)
    else:
        _check(value, given)
        sizes = list(given)
    static = onnx.ValueInfoProto()
    static.CopyFrom(value)
    static.type.tensor_type.CopyFrom(onnx.helper.make_tensor_type_proto(tensor.elem_type, sizes).tensor_type)
    return static


def _implied(value: onnx.ValueInfoProto, named: Mapping[str, int]) -> list[int]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise UserError(f"the input {value.name!r} has no shape: give one with --shape {value.name}=1x32")
    sizes = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            sizes.append(dim.dim_value)
        elif dim.dim_param in named:
            sizes.append(named[dim.dim_param])
        elif axis == 0 and BATCH.fullmatch(dim.dim_param):
            sizes.append(1)
        else:
            example = "x".join(str(d.dim_value if d.dim_value > 0 else 1) for d in tensor.shape.dim)
            raise UserError(
                f"the input {value.name!r} has the shape {_text(value)}: "
                f"give a static one with --shape {value.name}={example}"
            )
    return sizes


def _check(value: onnx.ValueInfoProto, given: Sequence[int]) -> None:
    shown = f"--shape {value.name}={'x'.join(map(str, given))}"
    if any(size < 1 for size in given):
        raise UserError(f"{shown}: every dim must be at least 1")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return
    dims = tensor.shape.dim
    fits = len(dims) == len(given) and all(
        dim.dim_value in (0, -1, size) for dim, size in zip(dims, given, strict=True)
    )
    if not fits:
        raise UserError(f"{shown} contradicts the model, whose input {value.name!r} is {_text(value)}")


def _text(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return (
        f"[{', '.join(dim.dim_param or (str(dim.dim_value) if dim.dim_value > 0 else '?') for dim in dims)}]"
    )
