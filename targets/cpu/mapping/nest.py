"""The CPU's mappings: a kernel's tiling written as loops, and read back.

P=8@cores, K=4@cache, Q=79@cache, R=3@cache, C=96@cache, Q=5@registers, K=2@registers, K=8@lanes, C=2@lanes

Loops at `cores` are tasks shared among them, at `dram` the same tasks one after the other. A task stages the
input of its rows in the `cache` and walks over blocks of output channels, tiles of pixels, the window and the
input channels; `registers` hold a tile, and say how many steps over the inputs are written out at a time;
`lanes` are those of a vector, with the inputs that one multiplies.

A tile need not divide the layer: the last one overlaps the one before it, so the loops make at least as many
iterations as the layer has. Pixels of a task's rows are one axis, and inputs that lie one behind the other
(a window's columns and their channels) are one axis, C. A dense layer's rows are its pixels, and a product of
activations has its batch in place of images.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from tersor.layer import Dim
from tersor.mapping import Loop, Mapping
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.layout.geometry import Geometry, Tiling

PLACES = ("cores", "dram", "cache", "registers", "lanes")


@dataclass(frozen=True)
class Axes:
    """The letters of what a kernel calls images, rows and pixels."""

    image: Dim
    row: Dim
    pixel: Dim


CONVOLUTION = Axes("N", "P", "Q")
DENSE = Axes("N", "P", "N")  # one image of one row
PRODUCT = Axes("G", "N", "N")  # images of one column


class Loops(Protocol):
    """The loops of a kernel family before they are tiled."""

    def why_not(self, tiling: Tiling) -> str | None:
        """Say why no kernel walks so, or None if one does."""
        ...

    def mapping(self, tiling: Tiling) -> Mapping:
        """Write a tiling as loops; those of one iteration are left out."""
        ...

    def tiling(self, mapping: Mapping) -> Tiling:
        """Read the tiling that is written as `mapping`. Raises ValueError if no kernel has these loops."""
        ...


def read(mapping: Mapping, axes: Axes, out_height: int) -> Tiling:
    """Read tasks and register tile of a mapping. Raises ValueError for places that are no CPU's."""
    if mapping.keep:
        raise ValueError("its kernels choose what is kept where: leave `keep` empty")
    if unknown := [loop.at for loop in mapping.loops if loop.at not in PLACES]:
        raise ValueError(f"a CPU has loops at {', '.join(PLACES)}, not at {unknown[0]!r}")
    sizes: Counter[tuple[str, str]] = Counter()
    for loop in mapping.loops:
        sizes[loop.dim, loop.at] = max(1, sizes[loop.dim, loop.at]) * loop.size
    at = "cores" if any(loop.at == "cores" for loop in mapping.loops) else "dram"
    chunks = sizes[axes.row, at] or 1
    return Tiling(
        sizes[axes.pixel, "registers"] or 1,
        sizes["K", "registers"] or 1,
        -(-out_height // chunks),
        sizes["K", at] or 1,
        at == "cores",
        sizes["C", "registers"] or 1,
    )


def checked(loops: Loops, tiling: Tiling, mapping: Mapping) -> Tiling:
    """Give `tiling` back if it is all that `mapping` says. Raises ValueError if not."""
    if reason := loops.why_not(tiling):
        raise ValueError(reason)
    own = loops.mapping(tiling)
    if own.loops != tuple(loop for loop in mapping.loops if loop.size > 1):
        raise ValueError(f"with its tasks and its tile in registers the loops are {own}")
    return tiling


@dataclass(frozen=True)
class Nest:
    """The loops of a kernel before they are tiled; `integer` if it multiplies codes."""

    isa: Isa
    geometry: Geometry
    integer: bool
    axes: Axes = CONVOLUTION

    @property
    def vectors(self) -> int:
        """Vectors that the output channels fill: of a group, or of all channels of a depthwise layer."""
        g = self.geometry
        return -(-(g.channels if g.is_depthwise else g.group_outputs) // self.isa.lanes)

    def why_not(self, tiling: Tiling) -> str | None:
        """Say why no kernel walks so, or None if one does."""
        g, isa = self.geometry, self.isa
        t = tiling
        if min(t.pixels, t.vectors, t.rows, t.parts, t.steps) < 1:
            return "every loop makes at least one iteration"
        if self._steps % t.steps:
            return f"its {self._steps} steps over a run of inputs are no multiple of {t.steps}"
        if t.pixels * t.vectors >= isa.registers:
            return f"a tile of {t.pixels}x{t.vectors} vectors leaves none of {isa.registers} registers free"
        if t.vectors > self.vectors:
            return f"it has {self.vectors} vectors of {isa.lanes} output channels, fewer than {t.vectors}"
        if t.rows > g.out_height or t.rows != -(-g.out_height // -(-g.out_height // t.rows)):
            return f"{t.rows} of {g.out_height} rows are no even share for a task"
        most = g.out_width if g.is_depthwise else t.rows * g.out_width
        if t.pixels > most:
            return f"a task has {most} pixels in a row of tiles, fewer than {t.pixels}"
        if t.parts > (max(1, self.vectors // t.vectors) if self._has_parts else 1):
            return f"its output channels do not make {t.parts} tasks"
        if t.parallel and self.tasks(t) == 1:
            return "one task is not shared among cores"
        return None

    def tasks(self, tiling: Tiling) -> int:
        """How many tasks a tiling makes."""
        return self.geometry.batch * -(-self.geometry.out_height // tiling.rows) * tiling.parts

    def mapping(self, tiling: Tiling) -> Mapping:
        """Write a tiling as loops; those of one iteration are left out."""
        g, t, axes = self.geometry, tiling, self.axes
        at = "cores" if t.parallel else "dram"
        blocks = -(-self.vectors // t.vectors) if g.is_depthwise else self._share(t)
        if g.is_depthwise:
            pixels = (Loop(axes.row, t.rows, "cache"), Loop(axes.pixel, -(-g.out_width // t.pixels), "cache"))
        else:
            pixels = (Loop(axes.pixel, -(-t.rows * g.out_width // t.pixels), "cache"),)
        loops = (
            Loop(axes.image, g.batch, at),
            Loop(axes.row, -(-g.out_height // t.rows), at),
            Loop("K", t.parts, at),
            Loop("G", 1 if g.is_depthwise else g.groups, "cache"),
            Loop("K", blocks, "cache"),
            *pixels,
            *self._reduction(t),
            Loop(axes.pixel, t.pixels, "registers"),
            Loop("K", t.vectors, "registers"),
            Loop("C", t.steps, "registers"),
            Loop("K", self.isa.lanes, "lanes"),
            Loop("R" if g.is_depthwise else "C", self._group, "lanes"),
        )
        return Mapping(tuple(loop for loop in loops if loop.size > 1))

    def tiling(self, mapping: Mapping) -> Tiling:
        """Read the tiling that is written as `mapping`. Raises ValueError if no kernel has these loops."""
        return checked(self, read(mapping, self.axes, self.geometry.out_height), mapping)

    def _share(self, t: Tiling) -> int:
        """Blocks of output channels of one task; those that are narrower than the others count as well."""
        whole, rest = divmod(self.vectors, t.vectors)
        return -(-whole // t.parts) + (1 if rest else 0)

    @property
    def _has_parts(self) -> bool:
        """Whether tasks may share the output channels of the same pixels."""
        return self.axes is not PRODUCT and not self.geometry.is_depthwise

    @property
    def _steps(self) -> int:
        """Steps over one run of inputs; a depthwise layer has only its window, which is written out."""
        return 1 if self.geometry.is_depthwise else -(-self.geometry.run_length // self._group)

    @property
    def _group(self) -> int:
        """Inputs that one lane multiplies at once: neighbouring ones, or rows of a depthwise window."""
        if not self.integer:
            return 1
        return min(2, self.geometry.window[0]) if self.geometry.is_depthwise else self.isa.group

    def _reduction(self, t: Tiling) -> tuple[Loop, ...]:
        """The loops over what a tile sums up."""
        g = self.geometry
        rows, columns = g.window
        if g.is_depthwise:
            return Loop("R", -(-rows // self._group), "cache"), Loop("S", columns, "cache")
        columns, turns = len(g.runs) // rows, self._steps // t.steps
        return Loop("R", rows, "cache"), Loop("S", columns, "cache"), Loop("C", turns, "cache")
