from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.targets.cpu.host.isa import AMX
from tersor.targets.cpu.kernels.tiles import ROWS, Block
from tersor.targets.cpu.layout.fold import folded
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.halo import Halo
from tersor.targets.cpu.mapping.tile_tiling import (
    Depth,
    Layout,
    default_tile_tiling,
    layout_of,
    lines_of,
    must_stage,
    passes_of,
    why_not_tiles,
    window_of,
)
from tests.quantized_layers import draw, draw_tile_tiling

RESNET = Geometry(1, 28, 28, 128, 128, (3, 3), (1, 1), (1, 1, 1, 1))


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 400))
def test_pieces_cover_a_run_and_only_a_short_one_reads_beyond_it(run: int) -> None:
    depth = Depth(run)
    assert depth.size % 4 == 0
    assert depth.size <= 64
    starts = [min(piece * depth.size, depth.last) for piece in range(depth.pieces)]
    covered = {at for start in starts for at in range(start, start + depth.size)}
    assert covered == set(range(run + depth.overread))
    assert depth.overread == 0 or (depth.pieces == 1 and depth.overread < 4)


@pytest.mark.parametrize("seed", range(200))
def test_tiles_cover_every_pixel_and_read_inside_their_input(seed: int) -> None:
    g = draw(seed).geometry
    tiling = draw_tile_tiling(g, np.random.default_rng(seed))
    layout = Layout(bool(seed % 2), bool(seed % 3))
    lines, window = lines_of(g, tiling.rows, layout), window_of(g, tiling.rows, layout)
    size = window.size or ((tiling.rows - 1) * g.stride[0] + (g.window[0] - 1) * g.dilation[0] + 1) * (
        g.width * g.channels
    )
    covered = set()
    for tile in range(lines.tiles):
        line, first = divmod(tile, lines.line_tiles)
        first = min(first * lines.rows, lines.length - lines.rows)
        assert lines.rows <= ROWS
        for pixel in range(first, first + lines.rows):
            row, column = divmod(pixel, lines.pitch) if lines.pitch else (line, pixel)
            base = line * lines.step + pixel * window.column_step
            if column >= g.out_width:
                continue
            covered.add((row, column))
            assert base == row * window.row_step + column * window.column_step
    seen = folded(g)
    last = (seen.window[0] - 1) * window.tap_row
    last += 0 if seen.merges_columns else (seen.window[1] - 1) * window.tap_column
    depth = Depth(seen.run_length)
    end = lines.step * (lines.count - 1) + (lines.length - 1) * window.column_step
    assert end + (g.groups - 1) * g.depth + last + max(depth.last + depth.size, depth.size) <= size
    assert covered == {(p, q) for p in range(tiling.rows) for q in range(g.out_width)}


def tiled(g: Geometry) -> str | None:
    return why_not_tiles(AMX, g, 1)


def test_many_channels_and_pixels_go_to_the_tiles() -> None:
    for g in (
        RESNET,
        Geometry(1, 224, 224, 3, 64, (7, 7), (2, 2), (3, 3, 3, 3)),
        Geometry(1, 1, 64, 1024, 4096),
    ):
        assert tiled(g) is None


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        (Geometry(1, 28, 28, 32, 32, (3, 3), groups=32), "depthwise"),
        (Geometry(1, 1, 1, 1024, 4096), "cycles"),
        (Geometry(1, 56, 56, 8, 64), "cycles"),
        (Geometry(1, 14, 14, 64, 64, (3, 3), groups=16), "cycles"),
    ],
)
def test_what_leaves_tiles_mostly_empty_goes_to_the_vectors(geometry: Geometry, reason: str) -> None:
    assert reason in str(tiled(geometry))


def test_small_maps_are_one_line_and_wide_rows_are_lines_of_their_own() -> None:
    small = Geometry(1, 7, 7, 512, 512, (3, 3), (1, 1), (1, 1, 1, 1))
    lines = lines_of(small, 7, layout_of(small, 7))
    assert (lines.count, lines.tiles, lines.rows) == (1, 4, 16)
    rows = Geometry(1, 14, 14, 256, 256, (3, 3), (1, 1), (1, 1, 1, 1))
    lines = lines_of(rows, 14, layout_of(rows, 14))
    assert (lines.count, lines.tiles, lines.rows) == (14, 14, 14)


def test_weights_of_small_maps_are_read_once() -> None:
    small = Geometry(1, 7, 7, 512, 512, (3, 3), (1, 1), (1, 1, 1, 1))
    assert default_tile_tiling(AMX, small, 1).pixels == 4
    assert default_tile_tiling(AMX, Geometry(1, 1, 16, 512, 512), 1).vectors == 4


def test_few_tiles_of_pixels_are_loaded_where_their_rows_lie_in_two_lines_of_the_cache() -> None:
    whole = Geometry(1, 20, 20, 256, 240, (3, 3), padding=(1, 1, 1, 1))
    split = replace(whole, channels=240)
    assert default_tile_tiling(AMX, whole, 1).pixels == 4
    assert default_tile_tiling(AMX, split, 1).pixels <= 2
    # Half of a line does not reach into the next one.
    short = Geometry(1, 20, 20, 32, 240)
    assert default_tile_tiling(AMX, short, 1) == default_tile_tiling(AMX, replace(short, channels=64), 1)


def test_sums_are_made_in_passes_where_a_part_of_the_weights_stays_near() -> None:
    dense, row_by_row = Geometry(1, 1, 64, 1024, 64), Geometry(1, 14, 14, 256, 64, (3, 3))
    assert passes_of(dense, Block(2, 2), 4) == 2
    assert passes_of(row_by_row, Block(2, 1), 14) == 3
    assert passes_of(dense, Block(2, 1), 4) == 1  # all of them stay
    assert passes_of(dense, Block(4, 1), 4) == 1  # none is used again
    assert passes_of(Geometry(1, 14, 14, 1024, 64, (3, 3)), Block(2, 2), 14) == 1  # no part would
    assert passes_of(Geometry(1, 1, 64, 64 * 17, 64), Block(2, 2), 4) == 1  # 17 pieces make no parts


def test_a_strided_pointwise_layer_is_copied_only_where_that_fills_its_tiles() -> None:
    wide, narrow = (Geometry(1, size, size, 64, 128, (1, 1), (2, 2)) for size in (56, 14))
    assert not layout_of(wide, wide.out_height).staged
    assert layout_of(narrow, narrow.out_height).staged


def test_input_with_borders_or_an_end_within_a_lane_must_be_copied() -> None:
    assert must_stage(RESNET)
    assert must_stage(Geometry(1, 8, 8, 5, 16))
    assert not must_stage(Geometry(1, 8, 8, 65, 16))
    assert not must_stage(replace(RESNET, padding=(0, 0, 0, 0)))
    assert not must_stage(RESNET, Halo(RESNET.padding))


def test_small_layers_run_in_one_thread() -> None:
    small, large = (default_tile_tiling(AMX, Geometry(1, 1, rows, 64, 64), 4) for rows in (64, 1 << 16))
    assert not small.parallel
    assert large.parallel


def test_cores_share_the_channels_where_there_are_too_few_rows() -> None:
    assert default_tile_tiling(AMX, Geometry(1, 1, 64, 1024, 4096), 4).parts == 4
    assert default_tile_tiling(AMX, replace(RESNET, batch=4), 4).parts == 1
