"""Stepping: the cycles that the steps of the array take, with several products in one."""

from dataclasses import dataclass

import numpy as np

from tersor.layer import Dim
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.tiles import Array, Flag, Tiles


@dataclass(frozen=True)
class Stepping:
    """Cycles [mappings] of the array's steps, and how many times a unit adds to a sum for each of its steps.

    Products that are fused have one sum, and those that a pattern leaves out have none.
    """

    cycles: Array
    added: Array | float


def stepping(nest: Nest, sizes: Sizes, steps: Array, rate: float, fused: float, density: float) -> Stepping:
    """How `steps` go by if a unit makes `rate` of them in a cycle, `fused` along one dimension.

    Along that dimension, the steps of each tile of the innermost memory are rounded up to whole cycles. Of
    all products, a pattern of the weight leaves `density`.
    """
    datapath = nest.hardware.datapath
    if datapath is None or datapath.fuses is None or fused == 1:
        return Stepping(steps / rate, density)
    added = _rounded_up(nest, sizes, datapath.fuses, fused)
    return Stepping(steps / rate * fused * added, density * added)


def _rounded_up(nest: Nest, sizes: Sizes, dim: Dim, fused: float) -> Array | float:
    """Steps along `dim`, `fused` of them at a time, over those one by one."""
    tiles = Tiles(nest, sizes)
    innermost = 2 * (len(nest.hardware.memories) - 1)
    position = sum(depth < innermost for depth in nest.depths)
    in_time: list[Flag] = [axis is None for axis in nest.axes]
    of_tiles = tiles.visits(dim, position, in_time)
    whole = tiles.within(dim, position, of_tiles.extent, in_time)
    rest = tiles.within(dim, position, of_tiles.last, in_time)
    together = of_tiles.full * np.ceil(whole / fused) + np.ceil(rest / fused)
    return together / (of_tiles.full * whole + rest)
