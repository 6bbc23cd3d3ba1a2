"""Buckets: the shapes that one library is compiled for, and how arrays of other sizes go into them.

Arrays run in the smallest bucket that holds them: they are padded to its shape and the outputs are cropped
back. A batch larger than the largest bucket is run in parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from tersor.error import UserError

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Sequence[int], str]]  # name -> shape, dtype
Axis = tuple[str, int]  # a tensor's name and one of its axes
Padding = Literal["zeros", "rows", "exact"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the library."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Bucket:
    """The shapes that one function of the library, `entry`, is compiled for."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    entry: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()

    @property
    def volume(self) -> int:
        """Elements of all inputs."""
        return sum(prod(spec.shape) for spec in self.inputs)

    def draw(self, seed: int = 0) -> dict[str, Array]:
        """Draw inputs: unit normals, and for integers zeros and ones: indices and masks allow these."""
        random = np.random.default_rng(seed)
        drawn = {}
        for spec in self.inputs:
            real = np.dtype(spec.dtype).kind == "f"
            values = random.normal(size=spec.shape) if real else random.integers(0, 2, spec.shape)
            drawn[spec.name] = values.astype(spec.dtype)
        return drawn


@dataclass(frozen=True)
class Dim:
    """A size in which arrays may differ from a bucket, the same along all these axes.

    `sizes` has one size for each bucket. Shorter arrays are padded with `zeros`; those of a batch, whose
    `rows` do not depend on one another, with copies of the last row; or they are refused (`exact`) for the
    reason `why`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sizes: tuple[int, ...]
    inputs: tuple[Axis, ...]
    outputs: tuple[Axis, ...] = ()
    padding: Padding = "exact"
    why: str = ""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UserError("a dim of buckets needs an axis of an input")

    def fits(self, index: int, size: int) -> bool:
        """Whether arrays of this size run in the bucket `index`."""
        return self.sizes[index] == size if self.padding == "exact" else self.sizes[index] >= size

    def cut(self, arrays: Mapping[str, Array], start: int, count: int) -> dict[str, Array]:
        """Give at most `count` of the inputs' rows along this dim, and what does not have it whole."""
        axes = dict(self.inputs)
        rows = slice(start, start + count)
        return {
            name: array[(slice(None),) * axes[name] + (rows,)] if name in axes else array
            for name, array in arrays.items()
        }

    def __str__(self) -> str:
        """Say which sizes run: `any`, `up to 128`, `32 or 128`."""
        match self.padding:
            case "rows":
                return "any"
            case "zeros":
                return f"up to {max(self.sizes)}"
            case "exact":
                return " or ".join(map(str, sorted(set(self.sizes))))


@dataclass(frozen=True)
class Placed:
    """Arrays padded to the shape of the bucket `index`; `sizes` are what they had, one for each dim."""

    index: int
    sizes: tuple[int, ...]
    arrays: dict[str, Array]


@dataclass(frozen=True)
class Buckets:
    """The shapes of one library from the smallest to the largest, and the dims in which they differ."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    shapes: tuple[Bucket, ...]
    dims: tuple[Dim, ...] = ()

    def __post_init__(self) -> None:
        if not self.shapes:
            raise UserError("a library needs at least one shape")
        if any(len(dim.sizes) != len(self.shapes) for dim in self.dims):
            raise UserError(f"every dim needs a size for each of {len(self.shapes)} buckets")
        if sum(dim.padding == "rows" for dim in self.dims) > 1:
            raise UserError("only one dim of buckets can be a batch of independent rows")

    @classmethod
    def single(cls, inputs: Inputs) -> Self:
        """Give the one bucket of a network whose arrays all have these shapes."""
        specs = tuple(TensorSpec(name, tuple(shape), dtype) for name, (shape, dtype) in inputs.items())
        return cls((Bucket("main", specs),))

    @property
    def largest(self) -> Bucket:
        """The bucket that is compiled as `main`."""
        return self.shapes[-1]

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of the largest bucket's inputs by name."""
        return {spec.name: (spec.shape, spec.dtype) for spec in self.largest.inputs}

    @property
    def batch(self) -> Dim | None:
        """The dim along which rows are independent, if there is one."""
        return next((dim for dim in self.dims if dim.padding == "rows"), None)

    def describe(self, name: str) -> str:
        """Write the shapes that an input may have: `[1, up to 128]`."""
        shape, _ = self.inputs[name]
        free = {axis: str(dim) for dim in self.dims for other, axis in dim.inputs if other == name}
        return f"[{', '.join(free.get(axis, str(size)) for axis, size in enumerate(shape))}]"

    def place(self, arrays: Mapping[str, Array]) -> list[Placed]:
        """Pad the arrays to the smallest bucket that holds them; a large batch is cut into several.

        Raises UserError for arrays that no bucket holds, and for what is no array of such numbers.
        """
        arrays = {name: self._array(name, arrays) for name in self.inputs}
        sizes = self._sizes(arrays)
        fitting = [
            index
            for index in range(len(self.shapes))
            if all(
                dim.fits(index, size)
                for dim, size in zip(self.dims, sizes, strict=True)
                if dim.padding != "rows"
            )
        ]
        if not fitting:
            raise self._misfit(arrays)
        batch = self.batch
        if batch is not None:
            rows = sizes[self.dims.index(batch)]
            most = max(batch.sizes[index] for index in fitting)
            if rows > most:
                parts = (batch.cut(arrays, start, most) for start in range(0, rows, most))
                return [placed for part in parts for placed in self.place(part)]
            fitting = [index for index in fitting if batch.sizes[index] >= rows]
        index = min(fitting, key=lambda i: self.shapes[i].volume)
        return [self.pad(arrays, sizes, index)]

    def pad(self, arrays: Mapping[str, Array], sizes: tuple[int, ...], index: int) -> Placed:
        """Pad arrays of these sizes to the shape of one bucket that holds them."""
        padded = {spec.name: arrays[spec.name] for spec in self.shapes[index].inputs}
        for dim, size in zip(self.dims, sizes, strict=True):
            for name, axis in dim.inputs if dim.sizes[index] > size else ():
                widths = [(0, dim.sizes[index] - size if i == axis else 0) for i in range(padded[name].ndim)]
                padded[name] = np.pad(padded[name], widths, "edge" if dim.padding == "rows" else "constant")
        return Placed(index, sizes, padded)

    def crop(self, outputs: Sequence[Array], placed: Placed) -> list[Array]:
        """Cut what a bucket made of placed arrays back to their sizes."""
        names = [spec.name for spec in self.shapes[placed.index].outputs]
        cropped = list(outputs)
        for dim, size in zip(self.dims, placed.sizes, strict=True):
            for name, axis in dim.outputs if dim.sizes[placed.index] > size else ():
                at = names.index(name)
                cropped[at] = cropped[at][(slice(None),) * axis + (slice(size),)]
        return cropped

    def join(self, parts: Sequence[Sequence[Array]]) -> list[Array]:
        """Put the cropped outputs of a batch's parts together again."""
        if len(parts) == 1 or self.batch is None:
            return list(parts[0])
        axes = dict(self.batch.outputs)
        names = [spec.name for spec in self.largest.outputs]
        columns = zip(names, zip(*parts, strict=True), strict=True)
        return [np.concatenate(column, axes[name]) for name, column in columns]

    def padded_by(self, paddings: Sequence[tuple[Padding, str]]) -> "Buckets":
        """Give the buckets with another padding and reason for each dim."""
        pairs = zip(self.dims, paddings, strict=True)
        return replace(
            self, dims=tuple(replace(dim, padding=padding, why=why) for dim, (padding, why) in pairs)
        )

    def _array(self, name: str, arrays: Mapping[str, Any]) -> Array:
        """Take an input as an array. Raises UserError if it is missing or of another kind of numbers."""
        if name not in arrays:
            raise UserError(f"the input {name!r} is missing: give it as an array of {self.describe(name)}")
        wanted = np.dtype(self.inputs[name][1])
        try:
            array = np.asarray(arrays[name])
        except Exception as error:
            raise UserError(f"the input {name!r} is no array: give one of {self.describe(name)}") from error
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and wanted.kind != "f"):
            raise UserError(f"the input {name!r} holds {array.dtype}, but the network takes {wanted}")
        return array

    def _sizes(self, arrays: Mapping[str, Array]) -> tuple[int, ...]:
        """Read the arrays' sizes along the dims. Raises UserError where no bucket can have their shapes."""
        free = {axis for dim in self.dims for axis in dim.inputs}
        for name, (shape, _) in self.inputs.items():
            got = arrays[name].shape
            fixed = [axis for axis in range(len(shape)) if (name, axis) not in free]
            if len(got) != len(shape) or any(got[axis] != shape[axis] for axis in fixed) or 0 in got:
                raise self._mismatch(name, got)
        sizes = []
        for dim in self.dims:
            found = {arrays[name].shape[axis] for name, axis in dim.inputs}
            if len(found) > 1:
                shown = ", ".join(f"{name!r} has {arrays[name].shape[axis]}" for name, axis in dim.inputs)
                raise UserError(f"the inputs must be of one size along the same dim, but {shown}")
            sizes.append(found.pop())
        return tuple(sizes)

    def _misfit(self, arrays: Mapping[str, Array]) -> UserError:
        """Name the first input that no bucket holds; else say that the sizes do not go together."""
        for dim in self.dims:
            name, axis = dim.inputs[0]
            size = arrays[name].shape[axis]
            if dim.padding != "rows" and not any(dim.fits(i, size) for i in range(len(dim.sizes))):
                return self._mismatch(name, arrays[name].shape, dim.why)
        known = "; ".join(_shown(shape) for shape in self.shapes)
        return UserError(f"no shape of the library holds these inputs together: it has {known}")

    def _mismatch(self, name: str, got: tuple[int, ...], why: str = "") -> UserError:
        reason = f"; other sizes are not padded: {why}" if why else ""
        return UserError(
            f"the input {name!r} has shape {self.describe(name)}, got an array of {list(got)}{reason}"
        )


def find_dims(shapes: Sequence[Bucket], batched: Sequence[str] = ()) -> tuple[tuple[Dim, ...], str]:
    """Find the dims in which shapes differ, and why arrays must not be padded ("" if they may).

    Axes whose sizes are equal in all buckets are one dim, unless an input has such a leading axis and
    another: then the leading ones are a dim of their own. The leading axes of the inputs `batched` are a dim
    in any case.
    """
    varying = _varying([bucket.inputs for bucket in shapes], set(batched))
    groups: dict[tuple[object, ...], list[Axis]] = {}
    apart = {
        sizes
        for (name, axis), sizes in varying.items()
        if axis == 0 and any(other == name and i and s == sizes for (other, i), s in varying.items())
    }
    for (name, axis), sizes in varying.items():
        groups.setdefault((sizes, sizes in apart and axis == 0), []).append((name, axis))
    outputs: dict[tuple[object, ...], list[Axis]] = {}
    why = ""
    names = {spec.name for spec in shapes[0].outputs} if batched else set()
    for (name, axis), sizes in _varying([bucket.outputs for bucket in shapes], names).items():
        constant = len(set(sizes)) == 1
        key = (sizes, sizes in apart and axis == 0)
        if key in groups:
            outputs.setdefault(key, []).append((name, axis))
        elif not constant:
            why = f"the output {name!r} has sizes of its own, {_alternatives(sizes)}"
    dims = [
        Dim(sizes, tuple(axes), tuple(outputs.get((sizes, leading), ())))  # pyright: ignore[reportArgumentType]
        for (sizes, leading), axes in groups.items()
    ]
    return tuple(dims), why


def entries(shapes: Sequence[Bucket]) -> tuple[Bucket, ...]:
    """Name the functions of shapes from small to large: the largest is `main`, others end in sizes."""
    varying = _varying([bucket.inputs for bucket in shapes], set())
    distinct = list(dict.fromkeys(varying.values()))
    *smaller, largest = (
        replace(bucket, entry="_".join(["main", "x".join(str(sizes[index]) for sizes in distinct)]))
        for index, bucket in enumerate(shapes)
    )
    return *smaller, replace(largest, entry="main")


def _varying(tensors: Sequence[Sequence[TensorSpec]], always: set[str]) -> dict[Axis, tuple[int, ...]]:
    """Give the sizes over buckets of the axes in which they differ, and of the leading ones of `always`."""
    found: dict[Axis, tuple[int, ...]] = {}
    for specs in zip(*tensors, strict=True):
        for axis, sizes in enumerate(zip(*(spec.shape for spec in specs), strict=True)):
            if len(set(sizes)) > 1 or (axis == 0 and specs[0].name in always):
                found[specs[0].name, axis] = sizes
    return found


def _shown(bucket: Bucket) -> str:
    return ", ".join(f"{spec.name} {'x'.join(map(str, spec.shape))}" for spec in bucket.inputs)


def _alternatives(sizes: Sequence[int]) -> str:
    return " or ".join(map(str, dict.fromkeys(sizes)))
