"""Grids: where the codes of an activation stand, as the quantize and dequantize around it say.

    dequantize(quantize(x))                          codes 0 to 255
    dequantize(clip(quantize(x), 0, 2^bits - 1))     codes of fewer bits

Other tools write fewer bits the same way (quantize, clip, dequantize: Pappalardo et al., QONNX: Representing
Arbitrary-Precision Quantized Neural Networks, 2022, sec. IV).
"""

from dataclasses import dataclass

import numpy as np

from tersor.arithmetic import UINT8
from tersor.ir.chains import Limits, activation_limits
from tersor.ir.graph import Expr, Graph, operator


@dataclass(frozen=True)
class Grid:
    """One scale and zero point for a whole tensor of bytes: ``real = scale * (code - zero_point)``.

    The codes are 0 to `most`.
    """

    scale: float
    zero_point: int
    most: int = UINT8[1]

    def bounds(self, limits: Limits = (None, None)) -> tuple[int, int]:
        """Give the codes between which clipping to real limits keeps this grid's codes."""
        low, high = limits
        first = 0 if low is None else self._code(low)
        last = self.most if high is None else self._code(high)
        return first, max(first, last)

    def _code(self, value: float) -> int:
        steps = float(np.rint(np.float32(value) / np.float32(self.scale)))
        return int(min(max(steps + self.zero_point, 0), self.most))


def grid_of(graph: Graph, value: Expr) -> Grid | None:
    """Give the grid of a quantize or dequantize; None for other operators, codes and scales per channel.

    That of a quantize is without the clip that may follow it: see `grid_made`.
    """
    match operator(value):
        case "quantize":
            dtype, most = str(value.ty.dtype), None
        case "dequantize":
            codes = value.args[0]
            dtype, most = str(codes.ty.dtype), most_code(graph, graph.definition(codes))
        case _:
            return None
    scale, zero_point = (graph.value(argument) for argument in value.args[1:3])
    if dtype != "uint8" or scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
        return None
    return Grid(float(scale.item()), int(zero_point.item()), UINT8[1] if most is None else most)


def grid_made(graph: Graph, var: Expr) -> Grid | None:
    """Give the grid that a tensor is brought to by the quantize that `var` is bound to and its clip."""
    value = graph.definition(var)
    if operator(value) != "quantize":
        return None
    found, reader = grid_of(graph, value), graph.only_user(var)
    most = most_code(graph, graph.definition(reader)) if reader is not None else None
    return found if found is None or most is None else Grid(found.scale, found.zero_point, most)


def grid_below(graph: Graph, var: Expr) -> Grid | None:
    """Give the grid of a tensor that is dequantized from codes made in the network, else None."""
    value = graph.definition(var)
    if operator(value) != "dequantize":
        return None
    codes = graph.definition(value.args[0])
    if most_code(graph, codes) is not None:
        codes = graph.definition(codes.args[0])
    if operator(codes) != "quantize" or grid_of(graph, codes) is None:
        return None
    return grid_of(graph, value)


def most_code(graph: Graph, value: Expr) -> int | None:
    """Give the highest code that a clip leaves of a quantize which it alone reads; None if it is none."""
    if operator(value) != "clip" or str(value.ty.dtype) != "uint8":
        return None
    source = value.args[0]
    if operator(graph.definition(source)) != "quantize" or graph.only_user(source) is None:
        return None
    limits = activation_limits(value)
    low, high = limits if limits is not None else (None, None)
    return int(high) if low == 0 and high is not None and 0 < high <= UINT8[1] else None
