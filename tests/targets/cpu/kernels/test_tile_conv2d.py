from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.host.isa import AMX
from tersor.targets.cpu.kernels.choice import Packing, choose_kernel
from tersor.targets.cpu.kernels.epilogue import Requantize
from tersor.targets.cpu.kernels.tile_conv2d import tile_conv2d, tile_order
from tersor.targets.cpu.kernels.tiles import Block
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.tile_tiling import Layout, layout_of, lines_of, passes_of
from tests.quantized_layers import QuantizedLayer
from tests.targets.cpu.kernels.test_choice import NATIVE, runnable

RNG = np.random.default_rng(0)
CONV = Geometry(1, 14, 14, 96, 64, (3, 3), (1, 1), (1, 1, 1, 1))


geometries = st.builds(
    lambda depth, outputs, window, groups, dilation: Geometry(
        1, 9, 9, depth * groups, outputs * groups, window, (1, 1), (0, 0, 0, 0), (1, dilation), groups
    ),
    st.integers(1, 140),
    st.integers(1, 40),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(1, 2),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(geometries)
def test_every_weight_is_packed_exactly_once_in_whole_tiles(g: Geometry) -> None:
    weight = RNG.choice([-3, -2, -1, 1, 2, 3], (g.outputs, g.depth, *g.window)).astype(np.int8)
    packed = tile_order(g)(weight)
    np.testing.assert_array_equal(np.sort(packed[packed != 0]), np.sort(weight.ravel()))
    assert packed.size % (16 * 4) == 0


def test_a_packed_weight_is_in_the_order_in_which_the_unit_reads_it() -> None:
    """Two outputs of eight pointwise inputs: four inputs of each output, then the next four."""
    weight = np.arange(1, 17, dtype=np.int8).reshape(2, 8, 1, 1)
    tile = tile_order(Geometry(1, 1, 1, 8, 2))(weight).reshape(2, 16, 4)
    np.testing.assert_array_equal(tile[0, :2], [[1, 2, 3, 4], [9, 10, 11, 12]])
    np.testing.assert_array_equal(tile[1, :2], [[5, 6, 7, 8], [13, 14, 15, 16]])
    assert not tile[:, 2:].any()


def test_what_the_last_piece_reads_again_meets_zeros() -> None:
    weight = np.ones((1, 66, 1, 1), np.int8)
    first, last = tile_order(Geometry(1, 1, 1, 66, 1))(weight).reshape(2, 9, 16, 4)[:, :, 0].reshape(2, 36)
    assert first.all()
    np.testing.assert_array_equal(last, [0] * 6 + [1] * 30)


def codes(layer: QuantizedLayer, ways: list[tuple[Tiling, Layout]]) -> list[np.ndarray]:
    isa, g = runnable(AMX), layer.geometry
    kernels = [replace(layer.kernel(isa), tiling=tiling) for tiling, _ in ways]
    shapes = (g.batch, g.height, g.width, g.channels), (g.batch, g.out_height, g.out_width, g.outputs)
    functions = {
        f"f{i}": tile_conv2d(isa, g, tiling, layer.epilogue, layer.zero_point, *shapes, layout=layout)
        for i, (tiling, layout) in enumerate(ways)
    }
    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    library = tvm.tirx.build(tvm.IRModule(named), target=Host(NATIVE, 2).target)
    return [layer.run(library[name], kernel) for name, kernel in zip(functions, kernels, strict=True)]


@pytest.mark.parametrize("stride", [1, 2])
def test_any_tiling_and_layout_give_the_same_codes(stride: int) -> None:
    g = Geometry(2, 9, 19, 66, 40, (3, 3), (stride, stride), (1, 1, 1, 1))
    ways = [
        (Tiling(1, 1, g.out_height, 1), Layout(flat=True, staged=True)),
        (Tiling(2, 2, g.out_height, 2), Layout(flat=False, staged=True)),
        (Tiling(2, 2, 4, 1, parallel=False), Layout(flat=True, staged=True)),
        (Tiling(4, 1, 4, 3), Layout(flat=True, staged=True)),
        (Tiling(1, 3, 3, 1), Layout(flat=False, staged=True)),
    ]
    layer = QuantizedLayer(g, False, 31, 100, (0, 255), None, False, 1)
    for way, result in zip(ways, codes(layer, ways), strict=True):
        np.testing.assert_array_equal(result, layer.expected, str(way))


@pytest.mark.parametrize(
    "g",
    [
        Geometry(1, 1, 64, 1024, 40),
        Geometry(1, 1, 50, 1534, 40),
        Geometry(1, 12, 12, 256, 40, (3, 3), (1, 1), (1, 1, 1, 1)),
        Geometry(1, 20, 20, 260, 70, (3, 2), (1, 2), (1, 1, 1, 1), (2, 2), 2),
    ],
    ids=str,
)
def test_sums_made_in_passes_are_the_same(g: Geometry) -> None:
    layer = QuantizedLayer(g, False, 31, 100, (0, 255), None, False, 1)
    ways = [
        (Tiling(pixels, vectors, g.out_height, parts), layout_of(g, g.out_height))
        for pixels, vectors, parts in ((2, 2, 1), (2, 1, 2), (1, 3, 1), (3, 1, 1))
    ]
    tiles = lines_of(g, g.out_height, ways[0][1]).tiles
    assert any(passes_of(g, Block(tiling.pixels, tiling.vectors), tiles) > 1 for tiling, _ in ways)
    for way, result in zip(ways, codes(layer, ways), strict=True):
        np.testing.assert_array_equal(result, layer.expected, str(way))


def test_a_strided_pointwise_layer_may_be_read_in_place_or_copied() -> None:
    g = Geometry(1, 9, 9, 66, 16, (1, 1), (2, 2))
    ways = [
        (Tiling(2, 1, g.out_height, 1), Layout(flat, staged))
        for flat in (False, True)
        for staged in (False, True)
    ]
    layer = QuantizedLayer(g, False, 31, 100, (0, 255), None, False, 1)
    for way, result in zip(ways, codes(layer, ways), strict=True):
        np.testing.assert_array_equal(result, layer.expected, str(way))


def assembly(g: Geometry) -> str:
    kernel = choose_kernel(AMX, 1, g, Requantize(3, bounded=True), 0)
    function = kernel.prim_func(
        (g.batch, g.height, g.width, g.channels), (g.batch, g.out_height, g.out_width, g.outputs)
    )
    mod = tvm.IRModule({"f": function.with_attr("global_symbol", "f")})
    library: Any = tvm.tirx.build(mod, target=Host(AMX, 1).target)
    return library.inspect_source("asm")


def test_the_unit_is_configured_used_and_released() -> None:
    text = assembly(CONV)
    for instruction in ("ldtilecfg", "tileloadd", "tdpbusd", "tilestored", "tilerelease"):
        assert instruction in text
    assert text.index("ldtilecfg") < text.index("tileloadd") < text.index("tdpbusd")


def test_weights_that_are_used_once_are_fetched_ahead() -> None:
    assert "prefetch" in assembly(Geometry(1, 7, 7, 512, 512, (3, 3), (1, 1), (1, 1, 1, 1)))
    assert "prefetch" not in assembly(CONV)


def test_a_described_kernel_uses_no_tile() -> None:
    layer = QuantizedLayer(CONV, False, 0, 0, (0, 255), None, False, 1)
    function = layer.prim_func(layer.kernel(AMX.described(), default_tiling=True))
    assert "tdpbusd" not in function.script()
    assert "tdpbusd" in layer.prim_func(layer.kernel(AMX, default_tiling=True)).script()


def test_names_tell_the_unit_and_the_block() -> None:
    convolution = choose_kernel(AMX, 1, CONV, Requantize(0), 0)
    dense = choose_kernel(AMX, 1, Geometry(1, 1, 128, 384, 1536), Requantize(0), 0)
    one_row = choose_kernel(AMX, 1, Geometry(1, 1, 1, 384, 1536), Requantize(0), 0)
    assert convolution.name.startswith("conv2d int8 amx ")
    assert replace(dense, tiling=Tiling(2, 2, 1, 1)).name == "dense int8 amx 2x2"
    assert one_row.name.startswith("dense int8 avx512-vnni ")


def test_a_weight_that_is_packed_stays_as_it_is_packed() -> None:
    """One row by itself would be a layer of vectors, many rows one of tiles."""
    one, many = Geometry(1, 1, 1, 384, 64), Geometry(1, 1, 128, 384, 64)
    weight = RNG.integers(-127, 128, (64, 384, 1, 1)).astype(np.int8)
    for first, second in ((one, many), (many, one)):
        chosen = choose_kernel(AMX, 1, first, Requantize(0), 0)
        other = choose_kernel(AMX, 1, second, Requantize(0), 0, chosen.packing)
        assert chosen.packing == other.packing
        np.testing.assert_array_equal(chosen.pack_weight(weight), other.pack_weight(weight))
    assert choose_kernel(AMX, 1, many, Requantize(0), 0).packing == Packing(None)
