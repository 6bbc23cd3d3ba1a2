"""The static models behind one library: one for each bucket of shapes, for each batch."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any

import onnx

from tersor.buckets import Bucket, Buckets, TensorSpec, entries, find_dims
from tersor.error import UserError
from tersor.frontend.batch import batched_inputs, with_batch
from tersor.frontend.graph import input_specs
from tersor.frontend.onnx_file import load_onnx
from tersor.frontend.onnx_import import static_model

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape | Sequence[Shape]]


def bucket_models(
    source: str | Path | onnx.ModelProto,
    shapes: Shapes | None = None,
    outputs: Sequence[str] | None = None,
    batch: int | Sequence[int] | None = None,
    check: bool = True,
) -> tuple[list[onnx.ModelProto], tuple[str, ...]]:
    """Return the model in each of the shapes, from small to large, and the inputs that `batch` is set of.

    An input has one shape, or one for each bucket; with several batches there is a bucket for each pair.
    Raises UserError where these do not go together.
    """
    model = load_onnx(source)
    if batch is None:
        models = [static_model(model, each, outputs) for each in split(shapes or {})]
        names: tuple[str, ...] = ()
    else:
        batches = [batch] if isinstance(batch, int) else list(batch)
        if not batches or len(set(batches)) < len(batches):
            raise UserError(f"--batch {','.join(map(str, batches))}: give each batch once")
        names = batched_inputs(model)
        models = [
            with_batch(model, each, outputs, size, check) for each in split(shapes or {}) for size in batches
        ]
    return _ordered(models), names


def split(shapes: Shapes) -> list[dict[str, Shape]]:
    """Give the shapes of each bucket: the n-th has the n-th shape of every input, or its only one."""
    several = {name: _several(name, given) for name, given in shapes.items()}
    counts = {name: len(given) for name, given in several.items() if len(given) != 1}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise UserError(f"--shape: every input needs one shape or as many as the others, but {shown}")
    count = next(iter(counts.values()), 1)
    return [
        {name: given[index] if len(given) > 1 else given[0] for name, given in several.items()}
        for index in range(count)
    ]


def _several(name: str, given: Any) -> list[Shape]:
    """Read one shape, or several. Raises UserError for anything else."""
    shapes = given if isinstance(given, list | tuple) and given and not _is_size(given[0]) else [given]
    for shape in shapes:
        if not isinstance(shape, list | tuple) or not all(map(_is_size, shape)):
            raise UserError(f"the shape {shape!r} of {name!r} is not understood: write it as (1, 32)")
    return [tuple(int(size) for size in shape) for shape in shapes]


def _is_size(value: object) -> bool:
    return isinstance(value, Integral)


def buckets_of(
    inputs: Sequence[Sequence[TensorSpec]],
    outputs: Sequence[Sequence[TensorSpec]],
    batched: Sequence[str] = (),
) -> Buckets:
    """Give the buckets of networks from small to large, no dim of which is known to allow padding."""
    unnamed = [Bucket("", tuple(some), tuple(others)) for some, others in zip(inputs, outputs, strict=True)]
    named = entries(unnamed)
    return Buckets(named, find_dims(named, batched)[0])


def _ordered(models: list[onnx.ModelProto]) -> list[onnx.ModelProto]:
    """Sort by size; two buckets of the same shapes are a mistake."""

    def key(model: onnx.ModelProto) -> tuple[int, list[list[int]]]:
        bucket = Bucket("", input_specs(model))
        return bucket.volume, [list(spec.shape) for spec in bucket.inputs]

    ordered = sorted(models, key=key)
    for first, second in pairwise(ordered):
        if key(first) == key(second):
            raise UserError(f"--shape: two buckets have the same shapes, {key(first)[1]}: give each once")
    return ordered
