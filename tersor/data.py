"""Samples for calibration and evaluation: from .npz files, folders of arrays and folders of images.

Samples are read one batch at a time, as often as one iterates: memory does not depend on how many there are.
"""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tersor.buckets import Buckets, Dim, Inputs
from tersor.error import UserError

Array = NDArray[Any]
IMAGES = (".jpg", ".jpeg", ".png")
ARRAYS = (".npz", ".npy")
LABELS = "labels"
FILENAME = "filename"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: resize, centre crop, then (pixel - mean) / std with pixels in 0..255.

    `resize` is what the short side becomes (bicubic), by default just enough for the crop; `crop` is the side
    of the centre crop and must be the model's; `mean` and `std` hold one number, or one per channel.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        for option, size in (("--resize", self.resize), ("--crop", self.crop)):
            if size is not None and size < 1:
                raise UserError(f"{option} must be at least 1, got {size}")
        if self.resize is not None and self.crop is not None and self.resize < self.crop:
            raise UserError(f"--resize {self.resize} leaves no room for --crop {self.crop}")
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, 3) or not np.all(np.isfinite(values)):
                raise UserError(f"{option} needs one number, or three for RGB, got {_list(values)}")
        if 0 in self.std:
            raise UserError("--std must not be 0: pixels are divided by it")
        if self.layout not in ("NCHW", "NHWC"):
            raise UserError(f"--layout must be NCHW or NHWC, got {self.layout}")

    def image(self, file: Path, shape: Sequence[int]) -> Array:
        """Read an image as float32 of `shape`, [C, H, W] or [H, W, C] by the layout."""
        channels, height, width = shape if self.layout == "NCHW" else (shape[2], shape[0], shape[1])
        try:
            with Image.open(file) as opened:
                picture = opened.convert("RGB" if channels == 3 else "L")
        except Exception as error:
            raise UserError(f"the image {str(file)!r} is broken or of an unknown format") from error
        pixels = np.asarray(self._cut(picture, height, width), np.float32).reshape(height, width, channels)
        pixels = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.layout == "NCHW" else pixels

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Raise UserError unless images can become the records of the input `name`, of this shape."""
        channels_at = 0 if self.layout == "NCHW" else 2
        if len(shape) != 3 or shape[channels_at] not in (1, 3):
            raise UserError(
                f"images do not fit the input {name!r}, whose samples are {_shape(shape)}: "
                f"give arrays in a .npz, or another --layout than {self.layout}"
            )
        channels = shape[channels_at]
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, channels):
                raise UserError(
                    f"{option} {_list(values)} has three numbers, but the model's images have one channel"
                )
        height, width = [size for axis, size in enumerate(shape) if axis != channels_at]
        if self.crop is not None and (height, width) != (self.crop, self.crop):
            raise UserError(
                f"--crop {self.crop} does not give the {height}x{width} images that the model takes"
            )
        if self.resize is not None and self.resize < max(height, width):
            raise UserError(
                f"--resize {self.resize} is less than the {height}x{width} images that the model takes"
            )

    def _cut(self, picture: Image.Image, height: int, width: int) -> Image.Image:
        if self.resize is None:
            scale = max(height / picture.height, width / picture.width)
            size = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
        else:
            short = min(picture.size)
            size = self.resize * picture.width // short, self.resize * picture.height // short
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        return picture.crop((left, top, left + width, top + height))


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
        headers = _headers(path)
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
        streams = {name: _read_rows(self.path, member) for name, member in self.members.items()}
        for index in range(self.count):
            record = {name: next(stream).reshape(self.shapes[name]) for name, stream in streams.items()}
            yield f"sample {index} of {str(self.path)!r}", record

    def labels(self) -> Array | None:
        """Return the classes stored beside the samples."""
        return np.array([int(row) for row in _read_rows(self.path, LABELS)]) if self.has_labels else None

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


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Read the shapes and dtypes of a file's arrays, without the arrays."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return {path.stem: _header(file)[:2]}
        with zipfile.ZipFile(path) as archive:
            headers = {}
            for info in archive.infolist():
                with archive.open(info) as file:
                    headers[info.filename.removesuffix(".npy")] = _header(file)[:2]
            return headers
    except Exception as error:
        raise UserError(f"{str(path)!r} is no array file, or it is truncated") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Read a .npy header: shape, dtype, and whether the first index runs fastest."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, dtype, fortran


def _read_rows(path: Path, member: str) -> Iterator[Array]:
    """Yield an array row by row along its first axis, from disk."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                yield from _rows(file)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
                yield from _rows(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"the array {member!r} in {str(path)!r} is truncated or damaged") from error


def _rows(file: IO[bytes]) -> Iterator[Array]:
    shape, dtype, fortran = _header(file)
    if fortran:  # rows are scattered over the whole array
        yield from np.frombuffer(file.read(), dtype).reshape(shape[::-1]).T
        return
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    for _ in range(shape[0]):
        row = file.read(size)
        if len(row) != size:
            raise EOFError
        yield np.frombuffer(row, dtype).reshape(shape[1:])


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
    if labels is None:
        return None
    if str(labels) == FILENAME:
        return np.array([_number_in_name(file) for file in source.files[chosen]], np.int64)
    classes = _read_csv(Path(labels))
    return np.array([_class_of(file, path, classes, labels) for file in source.files[chosen]], np.int64)


def _number_in_name(file: Path) -> int:
    numbers = re.findall(r"\d+", file.stem)
    if not numbers:
        raise UserError(f"--labels filename finds no number in the name {file.name!r}")
    return int(numbers[-1])


def _class_of(file: Path, folder: Path, classes: Mapping[str, int], labels: str | Path) -> int:
    relative = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
    for key in (relative, file.name):
        if key in classes:
            return classes[key]
    raise UserError(f"{str(labels)!r} has no class for the file {file.name!r}")


def _read_csv(path: Path) -> dict[str, int]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the labels {str(path)!r} cannot be read; give a CSV file, or 'filename'") from error
    rows = csv.DictReader(io.StringIO(text))
    if not {"file", "class"} <= set(rows.fieldnames or ()):
        raise UserError(f"the labels {str(path)!r} need a first line with the columns file and class")
    classes = {}
    for row in rows:
        try:
            classes[row["file"]] = int(row["class"])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{str(path)!r}, line {rows.line_num}: the class must be a number, got {row['class']!r}"
            ) from error
    return classes


def _shape(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
