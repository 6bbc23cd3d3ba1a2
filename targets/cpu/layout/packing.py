"""Packing: constants of a layer in the order in which the register tile consumes them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.order import Join, Order, Permute, Reshape, Take, padded

Array = npt.NDArray[Any]


def weight_order(isa: Isa, g: Geometry, vectors: int, dtype: np.dtype[Any]) -> Order:
    """Give the order in which the kernel reads a weight [K, C/groups, R, S] (int8 or float32), flat.

    Order: group, block of `vectors` vectors, run of inputs, step, vector, lane, input within the step.
    Output channels are padded to whole vectors and runs to whole steps, with zeros.
    """
    group = dot_group(isa, dtype)
    steps, runs, count = -(-g.run_length // group), len(g.runs), channel_vectors(isa, g)
    whole = count // vectors * vectors

    def block(first: int, stop: int, width: int) -> Order:
        split = (g.groups, (stop - first) // width, width, isa.lanes, runs, steps, group)
        flat = Reshape((g.groups, (stop - first) * isa.lanes * runs * steps * group))
        return Order((Take(1, first, stop), Reshape(split), Permute((0, 1, 4, 5, 2, 3, 6)), flat))

    blocks = [block(0, whole, vectors)] if whole else []
    blocks += [block(whole, count, count - whole)] if whole < count else []
    joined = blocks[0].moves if len(blocks) == 1 else (Join(1, *blocks),)
    return Order(
        (
            Permute((0, 2, 3, 1)),
            Reshape((g.groups, g.group_outputs, runs, g.run_length)),
            *padded(1, g.group_outputs, count * isa.lanes),
            *padded(3, g.run_length, steps * group),
            Reshape((g.groups, count, isa.lanes, runs, steps, group)),
            *joined,
            Reshape((g.groups * count * isa.lanes * runs * steps * group,)),
        )
    )


def pack_channels(isa: Isa, g: Geometry, values: Array) -> Array:
    """Pad values per output channel [K] to whole vectors in each group, with zeros."""
    padded = np.zeros((g.groups, channel_vectors(isa, g) * isa.lanes), values.dtype)
    padded[:, : g.group_outputs] = values.reshape(g.groups, g.group_outputs)
    return padded.ravel()


def channel_vectors(isa: Isa, g: Geometry) -> int:
    """Vectors that the output channels of one group fill."""
    return -(-g.group_outputs // isa.lanes)


def dot_group(isa: Isa, dtype: np.dtype[Any]) -> int:
    """Give how many neighbouring inputs one step of the kernel multiplies."""
    return isa.group if dtype == np.int8 else 1
