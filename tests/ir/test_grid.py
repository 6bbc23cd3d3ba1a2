from typing import Any

import numpy as np
import pytest
from tvm import relax

from tersor import arithmetic as A
from tersor.ir.graph import Graph, operator
from tersor.ir.grid import Grid, grid_below, grid_of
from tests.relax_modules import Net


def quantized(scale: Any, zero_point: Any, dtype: str = "uint8") -> tuple[Graph, Any, Any]:
    """A module with one quantize and one dequantize, and these two variables."""
    net = Net((1, 3, 2, 2))
    parameters = relax.const(np.float32(scale)), relax.const(np.asarray(zero_point, dtype))
    codes = net.emit(relax.op.quantize(net.inputs[0], *parameters, axis=1, out_dtype=dtype))
    graph = Graph(net.finish(net.emit(relax.op.dequantize(codes, *parameters, axis=1))))
    first, second = (var for var, value in graph.bindings if "quantize" in operator(value))
    return graph, first, second


def test_a_grid_is_one_scale_for_uint8_codes() -> None:
    graph, codes, real = quantized(0.5, 3)
    assert grid_of(graph, graph.definition(codes)) == Grid(0.5, 3)
    assert grid_below(graph, real) == Grid(0.5, 3)
    assert grid_below(graph, codes) is None
    assert grid_below(graph, graph.inputs[0]) is None


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype"), [([0.1, 0.2, 0.3], [0, 0, 0], "uint8"), (0.5, 3, "int8")]
)
def test_scales_per_channel_and_other_codes_are_no_grid(scale: Any, zero_point: Any, dtype: str) -> None:
    graph, codes, real = quantized(scale, zero_point, dtype)
    assert grid_of(graph, graph.definition(codes)) is None
    assert grid_below(graph, real) is None


@pytest.mark.parametrize("limits", [(0.0, 6.0), (None, 0.3), (-0.7, None), (None, None), (9.0, 12.0)])
def test_clipping_to_limits_is_clipping_codes_to_bounds(limits: tuple[float | None, float | None]) -> None:
    grid = Grid(0.03, 100)
    x = np.linspace(-8, 8, 4001, dtype=np.float32)
    low, high = (None if limit is None else np.float32(limit) for limit in limits)
    clipped = x if low is high is None else np.clip(x, low, high)
    expected = A.quantize(clipped, grid.scale, grid.zero_point)
    codes = A.quantize(x, grid.scale, grid.zero_point)
    np.testing.assert_array_equal(np.clip(codes, *grid.bounds(limits)), expected)
