"""Padding: find out, by running the float network, which dims of its buckets may be padded.

Rows of a batch may, if a batch cut in two and padded gives what the whole gives. Any other dim may be padded
with zeros, if the larger bucket gives on padded arrays what the smaller one gives on the arrays themselves:
that is so where the model masks its padding, or where later steps do not change earlier ones.
"""

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from tersor.buckets import Buckets, Dim, Padding, find_dims
from tersor.frontend.verification import TOLERANCE, relative_error

Array = NDArray[Any]
Run = Callable[[int, Mapping[str, Array]], list[Array]]  # bucket, arrays of its shape -> outputs
UNCHECKED = "padding was not checked"


def check_padding(buckets: Buckets, run: Run) -> Buckets:
    """Give the buckets with the padding of each dim that leaves the outputs as they are, to 1e-4.

    `run` gives the outputs of the float network for arrays of a bucket's shape.
    """
    paddings: list[tuple[Padding, str]] = [("exact", UNCHECKED)] * len(buckets.dims)
    _, why = find_dims(buckets.shapes)
    for index, dim in enumerate(buckets.dims):
        if why:
            paddings[index] = "exact", why
            continue
        if _may_be_batch(buckets, dim):
            trial = buckets.padded_by(_only(buckets, index, "rows"))
            if _rows_are_independent(trial, run):
                paddings[index] = "rows", ""
                continue
        if len(set(dim.sizes)) > 1:
            paddings[index] = _zeros(buckets, index, run)
    return buckets.padded_by(paddings)


def _only(buckets: Buckets, index: int, padding: Padding) -> list[tuple[Padding, str]]:
    return [(padding if i == index else "exact", "") for i in range(len(buckets.dims))]


def _may_be_batch(buckets: Buckets, dim: Dim) -> bool:
    """Whether the dim leads an input and every output has it, each tensor once."""
    inputs, outputs = [name for name, _ in dim.inputs], [name for name, _ in dim.outputs]
    once = len(set(inputs)) == len(inputs) and len(set(outputs)) == len(outputs)
    return any(axis == 0 for _, axis in dim.inputs) and once and len(outputs) == len(buckets.largest.outputs)


def _rows_are_independent(trial: Buckets, run: Run) -> bool:
    """Run the largest bucket whole, and in all buckets that differ in rows alone, cut in two and padded."""
    batch = trial.batch
    assert batch is not None
    largest = len(trial.shapes) - 1
    arrays = trial.largest.draw()
    whole = run(largest, arrays)
    rows = batch.sizes[largest]
    same = [i for i in range(largest + 1) if _differ(trial, i, largest) <= {trial.dims.index(batch)}]
    for index in same:
        size = min(batch.sizes[index], max(1, rows // 2))
        parts = []
        for start in range(0, rows, size):
            part = batch.cut(arrays, start, size)
            sizes = _with(trial, largest, batch, min(size, rows - start))
            placed = trial.pad(part, sizes, index)
            parts.append(trial.crop(run(index, placed.arrays), placed))
        if _error(trial.join(parts), whole) > TOLERANCE:
            return False
    return True


def _zeros(buckets: Buckets, index: int, run: Run) -> tuple[Padding, str]:
    """Compare every bucket with the next that is larger in this dim alone, on the same arrays."""
    trial = buckets.padded_by(_only(buckets, index, "zeros"))
    dim = trial.dims[index]
    pairs = _pairs(trial, index)
    if not pairs:
        return "exact", "no two shapes of the library differ in this size alone"
    name, axis = dim.inputs[0]
    for small, large in pairs:
        arrays = trial.shapes[small].draw()
        sizes = tuple(each.sizes[small] for each in trial.dims)
        placed = trial.pad(arrays, sizes, large)
        error = _error(trial.crop(run(large, placed.arrays), placed), run(small, arrays))
        if error > TOLERANCE:
            return "exact", (
                f"zeros after axis {axis} of {name!r}, from {dim.sizes[small]} to {dim.sizes[large]}, change "
                f"the outputs by {error:.2g} of their largest value (allowed: {TOLERANCE:g}), so the model "
                "does not mask its padding"
            )
    return "zeros", ""


def _pairs(trial: Buckets, index: int) -> list[tuple[int, int]]:
    sizes = trial.dims[index].sizes
    pairs = []
    for small in range(len(sizes)):
        larger = [
            i for i in range(len(sizes)) if sizes[i] > sizes[small] and _differ(trial, small, i) == {index}
        ]
        if larger:
            pairs.append((small, min(larger, key=lambda i: sizes[i])))
    return pairs


def _differ(buckets: Buckets, first: int, second: int) -> set[int]:
    return {i for i, dim in enumerate(buckets.dims) if dim.sizes[first] != dim.sizes[second]}


def _with(buckets: Buckets, index: int, changed: Dim, size: int) -> tuple[int, ...]:
    return tuple(size if dim is changed else dim.sizes[index] for dim in buckets.dims)


def _error(results: list[Array], references: list[Array]) -> float:
    return max(relative_error(a, b) for a, b in zip(results, references, strict=True))
