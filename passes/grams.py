"""Grams: gather the rows that a layer's weight meets, and sum their products.

The sums are exact, so that they do not depend on how BLAS orders them, nor on its threads: rows are rounded
to multiples of a power of two at 2^-20 of the largest value of the sample, and up to ROWS products of such
numbers fit the 53 bits of a float64.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.gram import Gram
from tersor.ir.chains import Chain
from tersor.ir.graph import Graph, Module, pair, shape_of
from tersor.ir.parts import find_parts
from tersor.ir.recurrent import Recurrence
from tersor.passes.extract import tensor_names

ROWS = 256
"""Rows of one sample, or of one image of a batch, that are counted, at most; of more, every n-th, beginning
elsewhere in each sample."""

_BITS = 20
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Where a layer finds its rows: a tensor by name, and for a convolution how its window moves over it."""

    tensor: str
    columns: int  # of a row; of a group's, where there are several
    groups: int = 1
    kernel: tuple[int, int] | None = None  # None: the rows are those of a matrix
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilation: tuple[int, int] = (1, 1)


Windows = Mapping[str, tuple[Window, ...]]  # by layer; a weight that is used twice has two


def find_windows(mod: Module, layers: Collection[str]) -> dict[str, tuple[Window, ...]]:
    """Give the windows of the named layers; tables and products of activations have none."""
    graph, names = Graph(mod), tensor_names(mod)
    found: dict[str, tuple[Window, ...]] = {}
    for part in find_parts(graph):
        if part.layer not in layers:
            continue
        match part:
            case Chain():
                window = window_of(part, names[part.data])
            case Recurrence():
                window = Window(names[part.result], part.cell.hidden)
            case _:
                continue
        found[part.layer] = (*found.get(part.layer, ()), window)
    return found


def window_of(chain: Chain, tensor: str) -> Window:
    """Give the window of one use of a weight, whose input has a name."""
    weight = shape_of(chain.weight)
    if chain.operator == "matmul":
        return Window(tensor, weight[0])
    attributes = chain.attributes
    top, left, bottom, right = (int(each) for each in attributes.padding)
    return Window(
        tensor,
        weight[1] * weight[2] * weight[3],
        int(attributes.groups),
        (weight[2], weight[3]),
        pair(attributes.strides),
        (top, left, bottom, right),
        pair(attributes.dilation),
    )


class GramObserver:
    """The running sums of one layer."""

    def __init__(self) -> None:
        self.rows = 0
        self._products: Floats | None = None
        self._totals: Floats | None = None

    def observe(self, window: Window, tensor: NDArray, sample: int) -> None:
        """Take in one sample's input of the layer, each image of a batch by itself; `sample` is its index."""
        whole = np.asarray(tensor, np.float32)
        images = [whole] if window.kernel is None else np.split(whole, len(whole))
        for index, image in enumerate(images):
            self._add(rows_of(window, image, sample * len(images) + index))

    def _add(self, rows: NDArray[np.float32]) -> None:
        unit = _unit(rows)
        exact = np.rint(rows.astype(np.float64) / unit)  # [G, rows, n], integers up to 2^20
        products = np.stack([each.T @ each for each in exact]) * unit**2
        totals = exact.sum(axis=1) * unit
        self.rows += rows.shape[1]
        if self._products is None or self._totals is None:
            self._products, self._totals = products, totals
        else:
            self._products += products
            self._totals += totals

    def gram(self) -> Gram:
        """The moments so far."""
        assert self._products is not None
        assert self._totals is not None
        return Gram((self._products / self.rows).astype(np.float32), self._totals / self.rows, self.rows)


def rows_of(
    window: Window, tensor: NDArray[np.float32], sample: int = 0, limit: int | None = ROWS
) -> NDArray[np.float32]:
    """Give at most `limit` rows, [G, rows, n], of a layer's input: [..., C], or NCHW of a convolution."""
    if window.kernel is None:
        matrix = tensor.reshape(-1, window.columns)
        return matrix[_positions(len(matrix), 1, sample, limit)][None]
    top, left, bottom, right = window.padding
    padded = np.pad(tensor.transpose(0, 2, 3, 1), ((0, 0), (top, bottom), (left, right), (0, 0)))
    batch, height, width, channels = padded.shape
    reach = [(size - 1) * step for size, step in zip(window.kernel, window.dilation, strict=True)]
    down = (height - 1 - reach[0]) // window.strides[0] + 1
    across = (width - 1 - reach[1]) // window.strides[1] + 1
    chosen = _positions(batch * down * across, across, sample, limit)
    image, place = np.divmod(chosen, down * across)
    top_row, left_column = (place // across) * window.strides[0], (place % across) * window.strides[1]
    taps = [
        padded[image, top_row + r * window.dilation[0], left_column + s * window.dilation[1]]
        for r in range(window.kernel[0])
        for s in range(window.kernel[1])
    ]
    grouped = np.stack(taps, axis=1).reshape(len(chosen), len(taps), window.groups, channels // window.groups)
    return np.ascontiguousarray(grouped.transpose(2, 0, 1, 3).reshape(window.groups, len(chosen), -1))


def _positions(count: int, across: int, sample: int, limit: int | None) -> NDArray[np.intp]:
    """Choose every n-th of `count` positions, n prime to the row length, so that no column is left out."""
    stride = 1 if limit is None else -(-count // limit)
    while stride > 1 and math.gcd(stride, across) != 1:
        stride += 1
    return np.arange(sample % stride, count, stride)


def _unit(rows: NDArray[np.float32]) -> float:
    largest = float(np.abs(rows).max(initial=0.0))
    return math.ldexp(1.0, max(math.frexp(largest)[1] - _BITS, -500))
