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
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tersor.error import UserError

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Sequence[int], str]]  # name -> shape, dtype
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
    """Batches of inputs, read anew at each iteration; `labels` holds one class per sample, [len * batch]."""

    source: "_ImageFolder | _ArrayFiles"
    inputs: Inputs
    batch: int
    skip: int
    count: int
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return self.count // self.batch

    def __iter__(self) -> Iterator[dict[str, Array]]:
        pending: list[dict[str, Array]] = []
        used = len(self) * self.batch
        for index, (origin, record) in enumerate(self.source.records()):
            if index >= self.skip + used:
                return
            if index < self.skip:
                continue
            pending.append({name: self._checked(name, array, origin) for name, array in record.items()})
            if len(pending) == self.batch:
                yield {name: self._batched(name, [r[name] for r in pending]) for name in self.inputs}
                pending = []

    def _checked(self, name: str, array: Array, origin: str) -> Array:
        with np.errstate(over="ignore"):
            array = array.astype(self.inputs[name][1])
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{origin} holds NaN or infinity for the input {name!r}: clean the data")
        return array

    def _batched(self, name: str, arrays: Sequence[Array]) -> Array:
        return np.stack(arrays).reshape(tuple(self.inputs[name][0]))


def load_samples(
    path: str | Path,
    inputs: Inputs,
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
    fill a batch of the model's leading dim is left out, too. Raises UserError, also while iterating.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise UserError(f"the number of samples must be at least 1, got {limit}")
    batch, records = _record_shapes(inputs)
    source = _open(path, inputs, records, preprocessing or Preprocessing())
    count = len(source) - skip
    count = count if limit is None else min(count, limit)
    if len(source) == 0:
        raise UserError(f"{str(path)!r} holds no samples")
    if count < batch:
        raise UserError(f"{str(path)!r} holds {len(source)} samples, but at least {skip + batch} are needed")
    count -= count % batch
    return Samples(source, dict(inputs), batch, skip, count, _labels(source, path, labels, skip, count))


def _record_shapes(inputs: Inputs) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Split the batch axis off: if the inputs do not share one, a record holds them whole."""
    leading = {tuple(shape)[:1] for shape, _ in inputs.values()}
    if len(leading) == 1 and (first := leading.pop()):
        return first[0], {name: tuple(shape)[1:] for name, (shape, _) in inputs.items()}
    return 1, {name: tuple(shape) for name, (shape, _) in inputs.items()}


def _open(
    path: Path, inputs: Inputs, records: Mapping[str, tuple[int, ...]], preprocessing: Preprocessing
) -> "_ImageFolder | _ArrayFiles":
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
        return _ArrayFiles([_ArrayFile(file, inputs, records) for file in arrays])
    if not images:
        raise UserError(f"{str(path)!r} holds no .jpg, .png, .npz or .npy file")
    if len(inputs) != 1:
        raise UserError(
            f"images serve models with one input, this one has {len(inputs)}: give arrays in a .npz"
        )
    ((name, shape),) = records.items()
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


@dataclass(frozen=True)
class _ArrayFiles:
    files: Sequence["_ArrayFile"]

    def __len__(self) -> int:
        return sum(len(file) for file in self.files)

    def records(self) -> Iterator[tuple[str, dict[str, Array]]]:
        for file in self.files:
            yield from file.records()


class _ArrayFile:
    """A .npz or .npy file, checked when it is opened and read record by record."""

    def __init__(self, path: Path, inputs: Inputs, records: Mapping[str, tuple[int, ...]]) -> None:
        self.path = path
        self.shapes = records
        headers = _headers(path)
        self.members = _match(path, headers, list(inputs))
        counts = {}
        for name, member in self.members.items():
            shape, dtype = headers[member]
            self._check(name, member, shape, dtype, inputs[name][1])
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

    def _check(self, name: str, member: str, shape: tuple[int, ...], dtype: np.dtype, wanted: str) -> None:
        record = self.shapes[name]
        if not shape or shape[1:] not in (record, (1, *record)):
            raise UserError(
                f"the array {member!r} in {str(self.path)!r} has the shape {_shape(shape)}, "
                f"but the input {name!r} needs {_shape(('samples', *record))}"
            )
        numeric = dtype.kind in "fiub"
        if not numeric or (dtype.kind == "f" and np.dtype(wanted).kind != "f"):
            raise UserError(
                f"the array {member!r} in {str(self.path)!r} holds {dtype}, "
                f"but the input {name!r} needs {wanted}"
            )


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
