"""Halos: images stored with the border that the next layer needs, so that padding costs no copy of its own.

The kernel that writes an image fills its halo with the code of zero; a kernel that reads it finds its padding
in place. All kernels of an image know of its halo, others never see such an image.
"""

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.moves import fill_run

Expr = Any
Sides = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class Halo:
    """Pixels stored around an image."""

    sides: Sides = (0, 0, 0, 0)

    def __bool__(self) -> bool:
        return any(self.sides)

    def covers(self, padding: Sides) -> bool:
        """Whether a layer with this padding reads nothing outside."""
        return all(have >= need for have, need in zip(self.sides, padding, strict=True))

    def widened(self, padding: Sides) -> "Halo":
        """Give the least halo that covers this padding, too."""
        top, left, bottom, right = map(max, self.sides, padding)
        return Halo((top, left, bottom, right))


NO_HALO = Halo()


@dataclass(frozen=True)
class Image:
    """How one channels-last image lies in memory; places and distances are in elements."""

    height: int
    width: int
    channels: int
    halo: Halo = NO_HALO

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels, with the halo."""
        top, left, bottom, right = self.halo.sides
        return self.height + top + bottom, self.width + left + right, self.channels

    @property
    def pitch(self) -> int:
        """From one row to the next."""
        return self.shape[1] * self.channels

    @property
    def size(self) -> int:
        """From one image of the batch to the next."""
        return self.shape[0] * self.pitch

    def place(self, row: int, column: int) -> int:
        """Give where a pixel begins; the halo's have negative rows or columns, or beyond the last."""
        top, left, _, _ = self.halo.sides
        return (row + top) * self.pitch + (column + left) * self.channels


@dataclass(frozen=True)
class Halos:
    """Of the images that a kernel reads and writes."""

    input: Halo = NO_HALO
    residual: Halo = NO_HALO
    output: Halo = NO_HALO

    def source(self, g: Geometry) -> Image:
        """How the input of a layer lies in memory."""
        return Image(g.height, g.width, g.channels, self.input)

    def target(self, g: Geometry) -> Image:
        """How its output lies in memory."""
        return Image(g.out_height, g.out_width, g.outputs, self.output)

    def added(self, g: Geometry) -> Image:
        """How what is added to its output lies in memory."""
        return Image(g.out_height, g.out_width, g.outputs, self.residual)


NO_HALOS = Halos()


def emit_border(y: Expr, image: Image, start: Expr, first_row: Expr, rows: int, fill: float) -> None:
    """Fill the halo beside `rows` rows from `first_row` on, and above the first and below the last row."""
    top, left, bottom, right = image.halo.sides
    dtype = str(y.dtype)
    if left or right:
        with T.serial(0, rows) as r:
            row = start + (first_row + r) * image.pitch
            fill_run(y, row + image.place(0, -left), left * image.channels, fill, dtype)
            fill_run(y, row + image.place(0, image.width), right * image.channels, fill, dtype)
    if top:
        with T.If(first_row == 0), T.Then():
            fill_run(y, start, top * image.pitch, fill, dtype)
    if bottom:
        with T.If(first_row == image.height - rows), T.Then():
            fill_run(y, start + (image.height + top) * image.pitch, bottom * image.pitch, fill, dtype)
