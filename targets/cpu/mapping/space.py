"""Space: the tilings of a kernel that are worth measuring, as register tiles and ways to make tasks."""

from dataclasses import dataclass, replace

from tersor.targets.cpu.layout.geometry import Tiling
from tersor.targets.cpu.mapping.nest import Nest
from tersor.targets.cpu.mapping.tile_nest import TileNest

# Register tiles of one width: the tallest that fit, and so many smaller ones.
SMALLER_TILES = 4
# Vectors of output channels of a tile.
MOST_VECTORS = 6
# Steps of a reduction that are written out.
WRITTEN_STEPS = (1, 2, 4)
# Pixels of a tile; no CPU has more registers.
MOST_PIXELS = 32


@dataclass(frozen=True)
class Space:
    """The tilings of `nest` around `default`, for `cores`; all in tiles of `vectors` vectors, if given."""

    nest: Nest | TileNest
    default: Tiling
    cores: int
    vectors: int | None = None

    def tilings(self) -> tuple[Tiling, ...]:
        """Give all of them: every register tile with every way to make tasks; the default comes first."""
        tasks = self.tasks()
        found = [with_tile(task, tile) for tile in self.tiles() for task in tasks]
        return tuple(dict.fromkeys((self.default, *filter(self._is_legal, found))))

    def tiles(self) -> tuple[Tiling, ...]:
        """Give the default with other register tiles, and with other numbers of steps written out."""
        heights: dict[int, list[int]] = {}
        for vectors in [self.vectors] if self.vectors else range(1, MOST_VECTORS + 1):
            each = replace(self.default, vectors=vectors, parts=1, parallel=False)
            heights[vectors] = [
                pixels
                for pixels in range(MOST_PIXELS, 0, -1)
                if self.nest.why_not(replace(each, pixels=pixels)) is None
            ][: SMALLER_TILES + 1]
        found = [
            replace(self.default, pixels=pixels, vectors=vectors)
            for vectors, each in heights.items()
            for pixels in each
        ]
        found += [replace(self.default, steps=steps) for steps in WRITTEN_STEPS]
        return tuple(dict.fromkeys((self.default, *filter(self._is_legal, found))))

    def tasks(self) -> tuple[Tiling, ...]:
        """Give the default with other rows, parts of the output channels, and in one thread or all."""
        height = self.nest.geometry.out_height
        rows = sorted({-(-height // chunks) for chunks in range(1, height + 1)}, reverse=True)
        if len(rows) > 8:  # of many, those that halve
            rows = [
                each for i, each in enumerate(rows) if i < 4 or height // each & (height // each - 1) == 0
            ]
        parts = (1, self.cores, 2 * self.cores) if self.cores > 1 else (1,)
        found = [
            replace(self.default, rows=row, parts=part, parallel=parallel)
            for row in rows
            for part in parts
            for parallel in ((True, False) if self.cores > 1 else (False,))
            if parallel or part == 1
        ]
        return tuple(dict.fromkeys((self.default, *filter(self._is_legal, found))))

    def _is_legal(self, tiling: Tiling) -> bool:
        return self.nest.why_not(tiling) is None


def with_tile(tasks: Tiling, tile: Tiling) -> Tiling:
    """Give the tasks of one tiling with the register tile of another."""
    return replace(tasks, pixels=tile.pixels, vectors=tile.vectors, steps=tile.steps)
