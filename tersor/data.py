"""Samples for calibration and evaluation: from .npz files, folders of arrays and folders of images.

Samples are read one batch at a time, as often as one iterates: memory does not depend on how many there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.array_files import read_headers, read_rows
from tersor.buckets import Buckets, Dim, Inputs
from tersor.error import UserError
from tersor.labels import classes_of
from tersor.preprocessing import Preprocessing

Array = NDArray[Any]
IMAGES = (".jpg", ".jpeg", ".png")
ARRAYS = (".npz", ".npy")
LABELS = "labels"


@dataclass(frozen=True)
class Samples:
    """Batches of inputs, read anew at each iteration; `labels` holds one class per sample, [count]."""

    source: "_ImageFolder | _ArrayFiles"
    records: "_Records"
    skip: int
    count: int
    labels: NDArray[np.int64] | None
    sizes: tuple[int, ...]  # samples in each batch

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        chosen = islice(self.source.records(), self.skip, self.skip + self.count)
        for size in self.sizes:
            batch = [
                {name: self._checked(name, array, origin) for name, array in record.items()}
                for origin, record in islice(chosen, size)
            ]
            yield {name: self._batched([record[name] for record in batch]) for name in self.records.inputs}

    def _checked(self, name: str, array: Array, origin: str) -> Array:
        with np.errstate(over="ignore"):
            array = array.astype(self.records.inputs[name][1])
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{origin} holds NaN or infinity for the input {name!r}: clean the data")
        return array

    def _batched(self, arrays: Sequence[Array]) -> Array:
        return np.stack(arrays) if self.records.stacked else arrays[0]


def load_samples(
    path: str | Path,
    inputs: Inputs | Buckets,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    labels: str | Path | None = None,
    skip: int = 0,
) -> Samples:
    """Open the samples in a .npz file, a folder of .npz/.npy files, or a folder of images, sorted by name.

    `path` may also be a pattern for the files of a folder, `photos/cat_*.jpg`. Arrays are named like the
    inputs and have the samples along their first axis; for a model with one input any name will do. `labels`
    is a CSV file with the columns file and class, or `filename` for the last number in a file's name; a .npz
    may hold its own as `labels`. `skip` samples are left out, then at most `limit` are used; what does not
    fill a batch of the model's leading dim is left out, too, unless it can be padded. For buckets,
    samples may be of any size that they take; each batch is of one size. Raises UserError, also while
    iterating.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise UserError(f"the number of samples must be at least 1, got {limit}")
    records = _records(inputs if isinstance(inputs, Buckets) else Buckets.single(inputs))
    source = _open(path, records, preprocessing or Preprocessing())
    if len(source) == 0:
        raise UserError(f"{str(path)!r} holds no samples")
    least = 1 if records.partial else records.batch
    if limit is not None and limit < least:
        raise UserError(
            f"the model takes {least} samples at once, but only {limit} may be used: "
            f"allow at least {least} (--calibration-samples), or compile for a smaller batch"
        )
    count = len(source) - skip
    count = count if limit is None else min(count, limit)
    if count < least:
        raise UserError(f"{str(path)!r} holds {len(source)} samples, but at least {skip + least} are needed")
    count -= count % least
    sizes = _batches(source.runs(), skip, count, records, path)
    return Samples(source, records, skip, count, _labels(source, path, labels, skip, count), sizes)


@dataclass(frozen=True)
class _Records:
    """What one sample of each input looks like: `shapes`, and the `free` axes in which it may be smaller."""

    inputs: Inputs
    shapes: Mapping[str, tuple[int, ...]]
    free: Mapping[tuple[str, int], Dim]
    batch: int
    stacked: (
        bool  # whether the batch axis is split off: if the inputs do not share one, a record holds them whole
    )
    partial: bool  # whether a batch may have fewer samples

    def of(self, name: str, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Give the shape of the samples in an array [samples, ...], or None if they do not fit the input."""
        expected = self.shapes[name]
        got = tuple(shape[2:] if len(shape) == len(expected) + 2 and shape[1] == 1 else shape[1:])
        if not shape or len(got) != len(expected):
            return None
        pairs = enumerate(zip(got, expected, strict=True))
        fits = all(size == whole or self._holds(name, axis, size) for axis, (size, whole) in pairs)
        return got if fits else None

    def describe(self, name: str) -> str:
        """Write the shape that an array of samples must have."""
        sizes = [str(self.free.get((name, axis), size)) for axis, size in enumerate(self.shapes[name])]
        return _shape(("samples", *sizes))

    def _holds(self, name: str, axis: int, size: int) -> bool:
        dim = self.free.get((name, axis))
        return dim is not None and size > 0 and any(dim.fits(i, size) for i in range(len(dim.sizes)))


def _records(buckets: Buckets) -> _Records:
    inputs = buckets.inputs
    leading = {shape[:1] for shape, _ in inputs.values()}
    dims = {axis: dim for dim in buckets.dims for axis in dim.inputs}
    at_front = {dims.get((name, 0)) for name in inputs}
    batch = buckets.batch
    stacked = len(leading) == 1 and () not in leading and at_front in ({None}, {batch})
    if not stacked:
        return _Records(inputs, {name: shape for name, (shape, _) in inputs.items()}, dims, 1, False, True)
    size = next(iter(leading))[0]
    shapes = {name: shape[1:] for name, (shape, _) in inputs.items()}
    free = {(name, axis - 1): dim for (name, axis), dim in dims.items() if axis > 0}
    padded = batch is not None and at_front == {batch}
    return _Records(inputs, shapes, free, size, True, size == 1 or padded)


def _batches(
    runs: Sequence[tuple[object, int]], skip: int, count: int, records: _Records, path: Path
) -> tuple[int, ...]:
    """Cut samples, of which `runs` says how many have the same shape, into batches of one shape each."""
    if len(runs) > 1 and not records.partial:
        raise UserError(
            f"the samples in {str(path)!r} have different sizes, but the model takes {records.batch} "
            "at once: compile it for a batch of 1"
        )
    sizes: list[int] = []
    for _, length in runs:
        length, skip = max(0, length - skip), max(0, skip - length)
        used = min(length, count)
        count -= used
        whole, rest = divmod(used, records.batch)
        sizes += [records.batch] * whole + [rest] * (rest > 0)
    return tuple(sizes)


def _open(path: Path, records: _Records, preprocessing: Preprocessing) -> "_ImageFolder | _ArrayFiles":
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    elif path.exists():
        files = [path]
    else:
        files = sorted(path.parent.glob(path.name)) if "*" in path.name else []
        if not files:
            raise UserError(f"there is no data at {str(path)!r}")
    images = [p for p in files if p.suffix.lower() in IMAGES]
    arrays = [p for p in files if p.suffix in ARRAYS]
    if images and arrays:
        raise UserError(f"{str(path)!r} holds images and arrays: keep one kind")
    if arrays:
        return _ArrayFiles([_ArrayFile(file, records) for file in arrays])
    if not images:
        raise UserError(f"{str(path)!r} holds no .jpg, .png, .npz or .npy file")
    if len(records.inputs) != 1:
        raise UserError(
            f"images serve models with one input, this one has {len(records.inputs)}: give arrays in a .npz"
        )
    ((name, shape),) = records.shapes.items()
    preprocessing.check(name, shape)
    return _ImageFolder(images, name, shape, preprocessing)


@dataclass(frozen=True)
class _ImageFolder:
    files: Sequence[Path]
    name: str
    shape: tuple[int, ...]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.files)

    def records(self) -> Iterator[tuple[str, dict[str, Array]]]:
        for file in self.files:
            yield f"the image {str(file)!r}", {self.name: self.preprocessing.image(file, self.shape)}

    def runs(self) -> list[tuple[object, int]]:
        """Say how many samples in a row have the same shape."""
        return [(self.shape, len(self.files))]


@dataclass(frozen=True)
class _ArrayFiles:
    files: Sequence["_ArrayFile"]

    def __len__(self) -> int:
        return sum(len(file) for file in self.files)

    def records(self) -> Iterator[tuple[str, dict[str, Array]]]:
        for file in self.files:
            yield from file.records()

    def runs(self) -> list[tuple[object, int]]:
        """Say how many samples in a row have the same shape."""
        grouped = groupby(self.files, key=lambda file: file.shapes)
        return [(shapes, sum(map(len, files))) for shapes, files in grouped]


class _ArrayFile:
    """A .npz or .npy file, checked when it is opened and read record by record."""

    def __init__(self, path: Path, records: _Records) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}  # of one sample
        headers = read_headers(path)
        self.members = _match(path, headers, list(records.inputs))
        counts = {}
        for name, member in self.members.items():
            shape, dtype = headers[member]
            self.shapes[name] = self._check(name, member, shape, dtype, records)
            counts[member] = shape[0]
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{member!r} has {n}" for member, n in counts.items())
            raise UserError(f"the arrays in {str(path)!r} have different numbers of samples: {shown}")
        self.count = next(iter(counts.values()))
        self.has_labels = LABELS in headers and LABELS not in self.members.values()
        if self.has_labels:
            shape, dtype = headers[LABELS]
            if shape != (self.count,) or dtype.kind not in "iu":
                raise UserError(
                    f"'labels' in {str(path)!r} is {dtype} {_shape(shape)}, "
                    f"but it must be one integer for each of {self.count} samples"
                )

    def __len__(self) -> int:
        return self.count

    def records(self) -> Iterator[tuple[str, dict[str, Array]]]:
        streams = {name: read_rows(self.path, member) for name, member in self.members.items()}
        for index in range(self.count):
            record = {name: next(stream).reshape(self.shapes[name]) for name, stream in streams.items()}
            yield f"sample {index} of {str(self.path)!r}", record

    def labels(self) -> Array | None:
        """Return the classes stored beside the samples."""
        return np.array([int(row) for row in read_rows(self.path, LABELS)]) if self.has_labels else None

    def _check(
        self, name: str, member: str, shape: tuple[int, ...], dtype: np.dtype, records: _Records
    ) -> tuple[int, ...]:
        """Give the shape of one sample. Raises UserError if it is not the input's."""
        wanted = records.inputs[name][1]
        record = records.of(name, shape)
        if record is None:
            raise UserError(
                f"the array {member!r} in {str(self.path)!r} has the shape {_shape(shape)}, "
                f"but the input {name!r} needs {records.describe(name)}"
            )
        numeric = dtype.kind in "fiub"
        if not numeric or (dtype.kind == "f" and np.dtype(wanted).kind != "f"):
            raise UserError(
                f"the array {member!r} in {str(self.path)!r} holds {dtype}, "
                f"but the input {name!r} needs {wanted}"
            )
        return record


def _match(path: Path, headers: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Say which array serves which input."""
    arrays = [member for member in headers if member != LABELS or LABELS in names]
    if len(names) == 1 and len(arrays) == 1:
        return {names[0]: arrays[0]}
    for name in names:
        if name not in headers:
            found = ", ".join(map(repr, headers)) or "none"
            raise UserError(f"{str(path)!r} has no array for the input {name!r}; its arrays are {found}")
    if unknown := [member for member in arrays if member not in names]:
        inputs = ", ".join(map(repr, names))
        raise UserError(f"{str(path)!r} has an array {unknown[0]!r}, but the model's inputs are {inputs}")
    return {name: name for name in names}


def _labels(
    source: "_ImageFolder | _ArrayFiles", path: Path, labels: str | Path | None, skip: int, count: int
) -> NDArray[np.int64] | None:
    chosen = slice(skip, skip + count)
    if isinstance(source, _ArrayFiles):
        if labels is not None:
            raise UserError(
                f"--labels is for images: store the classes in {str(path)!r} as an array 'labels'"
            )
        stored = [file.labels() for file in source.files]
        known = [classes for classes in stored if classes is not None]
        if not known:
            return None
        if len(known) < len(stored):
            missing = source.files[[classes is None for classes in stored].index(True)].path
            raise UserError(f"{str(missing)!r} has no array 'labels', but other files have one")
        return np.concatenate(known).astype(np.int64)[chosen]
    return None if labels is None else classes_of(source.files[chosen], path, labels)


def _shape(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"
