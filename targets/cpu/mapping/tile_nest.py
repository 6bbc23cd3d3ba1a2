"""The mappings of layers on the matrix unit: blocks of tiles written as loops, and read back.

P=2@cores, K=4@cache, R=3@cache, Q=14@cache, C=6@cache, Q=2@registers, K=2@registers, Q=16@lanes, ...

`registers` hold a block of tiles; `lanes` are the rows and columns of a tile and the inputs that meet in it.
"""

from dataclasses import dataclass

from tersor.mapping import Loop, Mapping
from tersor.targets.cpu.kernels.tiles import LANES, Block
from tersor.targets.cpu.layout.fold import folded
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import CONVOLUTION, Axes, checked, read
from tersor.targets.cpu.mapping.tile_tiling import Depth, Lines, layout_of, lines_of, passes_of


@dataclass(frozen=True)
class TileNest:
    """The loops of a kernel on tiles before they are tiled."""

    geometry: Geometry
    axes: Axes = CONVOLUTION

    def why_not(self, tiling: Tiling) -> str | None:
        """Say why no kernel walks so, or None if one does."""
        g, t = self.geometry, tiling
        if min(t.pixels, t.vectors, t.rows, t.parts) < 1:
            return "every loop makes at least one iteration"
        if t.steps != 1:
            return "its steps over the inputs are not written out"
        if t.rows > g.out_height or t.rows != -(-g.out_height // -(-g.out_height // t.rows)):
            return f"{t.rows} of {g.out_height} rows are no even share for a task"
        if t.vectors > self._vectors:
            return f"it has {self._vectors} tiles of output channels, fewer than {t.vectors}"
        if t.pixels > self._lines(t).tiles:
            return f"a task has {self._lines(t).tiles} tiles of pixels, fewer than {t.pixels}"
        try:
            Block(t.pixels, t.vectors)
        except ValueError as error:
            return str(error)
        if t.parts > -(-self._vectors // t.vectors):
            return f"its output channels do not make {t.parts} tasks"
        if t.parallel and g.batch * -(-g.out_height // t.rows) * t.parts == 1:
            return "one task is not shared among cores"
        return None

    def mapping(self, tiling: Tiling) -> Mapping:
        """Write a tiling as loops; those of one iteration are left out."""
        g, t, axes, lines = self.geometry, tiling, self.axes, self._lines(tiling)
        at = "cores" if t.parallel else "dram"
        seen = folded(g)
        depth = Depth(seen.run_length)
        passes = passes_of(seen, Block(t.pixels, t.vectors), lines.tiles)
        by_rows = seen.window[0] > 1
        loops = (
            Loop(axes.image, g.batch, at),
            Loop(axes.row, -(-g.out_height // t.rows), at),
            Loop("K", t.parts, at),
            Loop("G", g.groups, "cache"),
            Loop("K", -(-self._vectors // (t.vectors * t.parts)), "cache"),
            Loop("R" if by_rows else "C", passes, "cache"),
            Loop(axes.pixel, -(-lines.tiles // t.pixels), "cache"),
            Loop("R", seen.window[0] // passes if by_rows else 1, "cache"),
            Loop("S", len(seen.runs) // seen.window[0], "cache"),
            Loop("C", depth.pieces if by_rows else depth.pieces // passes, "cache"),
            Loop(axes.pixel, t.pixels, "registers"),
            Loop("K", t.vectors, "registers"),
            Loop(axes.pixel, lines.rows, "lanes"),
            Loop("K", LANES, "lanes"),
            Loop("C", depth.size, "lanes"),
        )
        return Mapping(tuple(loop for loop in loops if loop.size > 1))

    def tiling(self, mapping: Mapping) -> Tiling:
        """Read the tiling that is written as `mapping`. Raises ValueError if no kernel has these loops."""
        return checked(self, read(mapping, self.axes, self.geometry.out_height), mapping)

    @property
    def _vectors(self) -> int:
        return -(-self.geometry.group_outputs // LANES)

    def _lines(self, tiling: Tiling) -> Lines:
        return lines_of(self.geometry, tiling.rows, layout_of(self.geometry, tiling.rows))
