"""Packing: constants of a layer in the order in which the register tile consumes them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.ir.operators import placeholder
from tersor.ir.untyped import te, tirx
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.layout.geometry import Geometry

Array = npt.NDArray[Any]


def pack_weight(isa: Isa, g: Geometry, vectors: int, weight: Array) -> Array:
    """Pack a weight [K, C/groups, R, S] (int8 or float32) in the order the kernel reads it, flat.

    Order: group, block of `vectors` vectors, run of inputs, step, vector, lane, input within the step.
    Output channels are padded to whole vectors and runs to whole steps, with zeros.
    """
    group = dot_group(isa, weight.dtype)
    steps = -(-g.run_length // group)
    runs = len(g.runs)
    count = channel_vectors(isa, g)
    by_run = weight.transpose(0, 2, 3, 1).reshape(g.groups, g.group_outputs, runs, g.run_length)
    padded = np.zeros((g.groups, count * isa.lanes, runs, steps * group), weight.dtype)
    padded[:, : g.group_outputs, :, : g.run_length] = by_run
    lanes = padded.reshape(g.groups, count, isa.lanes, runs, steps, group)
    blocks = [
        lanes[i, v : v + vectors].transpose(2, 3, 0, 1, 4).ravel()
        for i in range(g.groups)
        for v in range(0, count, vectors)
    ]
    return np.ascontiguousarray(np.concatenate(blocks))


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


def packing_function(isa: Isa, vectors: int, channels: int, outputs: int) -> Any:
    """Build the PrimFunc that packs int8 codes [C, K] as `pack_weight` does for a dense layer."""
    steps = -(-channels // isa.group)
    count = -(-outputs // isa.lanes)
    lane_size = isa.group
    codes = placeholder((channels, outputs), "int8", "codes")
    whole = count // vectors

    def code(i: Any) -> Any:
        block_size = steps * vectors * isa.lanes * lane_size
        block = i // block_size
        in_rest = block >= whole
        rest = count - whole * vectors if count % vectors else vectors
        width = tirx.Select(in_rest, rest, vectors)
        at = i - block * block_size
        step = at // (width * isa.lanes * lane_size)
        inside = at % (width * isa.lanes * lane_size)
        channel = step * lane_size + inside % lane_size
        output = block * vectors * isa.lanes + inside // lane_size
        exists = tirx.all(channel < channels, output < outputs)
        return tirx.if_then_else(exists, codes(channel, output), tirx.const(0, "int8"))

    size = tirx.IntImm("int64", count * isa.lanes * steps * lane_size)
    packed = te.compute((size,), code, "packed")
    return te.create_prim_func([codes, packed]).without_attr("global_symbol")
