"""Grids: where the codes of an activation stand, as the quantize and dequantize around it say."""

from dataclasses import dataclass

import numpy as np

from tersor.arithmetic import UINT8
from tersor.ir.chains import Limits
from tersor.ir.graph import Expr, Graph, operator


@dataclass(frozen=True)
class Grid:
    """One scale and zero point for a whole uint8 tensor: ``real = scale * (code - zero_point)``."""

    scale: float
    zero_point: int

    def bounds(self, limits: Limits) -> tuple[int, int]:
        """Give the codes between which clipping to real limits keeps this grid's codes."""
        low, high = limits
        first = UINT8[0] if low is None else self._code(low)
        last = UINT8[1] if high is None else self._code(high)
        return first, max(first, last)

    def _code(self, value: float) -> int:
        steps = float(np.rint(np.float32(value) / np.float32(self.scale)))
        return int(min(max(steps + self.zero_point, UINT8[0]), UINT8[1]))


def grid_of(graph: Graph, value: Expr) -> Grid | None:
    """Give the grid of a quantize or dequantize; None for other operators, codes and scales per channel."""
    match operator(value):
        case "quantize":
            dtype = str(value.ty.dtype)
        case "dequantize":
            dtype = str(value.args[0].ty.dtype)
        case _:
            return None
    scale, zero_point = (graph.value(argument) for argument in value.args[1:3])
    if dtype != "uint8" or scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
        return None
    return Grid(float(scale.item()), int(zero_point.item()))


def grid_below(graph: Graph, var: Expr) -> Grid | None:
    """Give the grid of a tensor that is dequantized from codes made in the network, else None."""
    value = graph.definition(var)
    if value is None or operator(value) != "dequantize":
        return None
    codes = graph.definition(value.args[0])
    if codes is None or operator(codes) != "quantize" or grid_of(graph, codes) is None:
        return None
    return grid_of(graph, value)
