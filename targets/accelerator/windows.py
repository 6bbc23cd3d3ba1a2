"""Windows: the rows (or columns) of an input that tiles of output rows and filter rows touch together.

Output row p and filter row r touch input row p * stride + r * dilation of the padded image; rows that a
stride steps over are not touched.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from tersor.layer import Layer
from tersor.targets.accelerator.tiles import Array, Visits, is_nothing


def touched(layer: Layer) -> int:
    """Elements of the padded input that a layer reads."""
    rows = Window(layer.stride[0], layer.dilation[0]).rows(float(layer.P), float(layer.R))
    columns = Window(layer.stride[1], layer.dilation[1]).rows(float(layer.Q), float(layer.S))
    return int(layer.N * layer.G * layer.C * rows * columns)


@dataclass(frozen=True)
class Window:
    """How far a step of an output row and of a filter row goes."""

    stride: int
    dilation: int

    def rows(self, outputs: Array | float, taps: Array | float) -> Array | float:
        """Different rows that `outputs` neighbouring output rows and `taps` neighbouring filter rows touch.

        With d and s, dilation and stride over their greatest common divisor, (p, r) and (p + d, r - s) touch
        the same row: such pairs make chains, and there is a row for each chain, pairs less links.
        """
        divisor = gcd(self.stride, self.dilation)
        apart_outputs, apart_taps = self.dilation // divisor, self.stride // divisor
        links = np.maximum(outputs - apart_outputs, 0) * np.maximum(taps - apart_taps, 0)
        return outputs * taps - links

    def touched(self, outputs: Visits, taps: Visits) -> Array | float:
        """Rows of all pairs of a tile of output rows and one of filter rows, added up."""
        total = self.rows(outputs.last, taps.last)
        if not is_nothing(outputs.full):
            total = total + outputs.full * self.rows(outputs.extent, taps.last)
        if not is_nothing(taps.full):
            total = total + taps.full * self.rows(outputs.last, taps.extent)
            if not is_nothing(outputs.full):
                total = total + outputs.full * taps.full * self.rows(outputs.extent, taps.extent)
        return total

    def slid(self, runs: Visits, tile: Array | float, steps: Array, taps: Visits) -> Array | float:
        """The same where a tile keeps what it shares with the one before it in a run of `steps` tiles.

        `runs` are over the dimension that slides, each a row of neighbouring tiles of `tile` iterations.
        """
        last = np.ceil(runs.last / tile)
        rest = runs.last - (last - 1) * tile

        def new(taps_of_one: Array | float) -> Array | float:
            first = self.rows(tile, taps_of_one)
            more = self.rows(2 * tile, taps_of_one) - first
            whole_run = first + (steps - 1) * more
            with_rest = first + (last - 2) * more + self.rows(tile + rest, taps_of_one) - first
            return runs.full * whole_run + np.where(last > 1, with_rest, self.rows(rest, taps_of_one))

        return taps.full * new(taps.extent) + new(taps.last)
