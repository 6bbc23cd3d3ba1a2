"""Machine picture: a network's layers under the roofs of a machine, and their energy by level."""

from pathlib import Path
from typing import Any

from tersor.drawing import figure, save_figure, shortened
from tersor.hardware import Hardware
from tersor.machine_map import MachineMap
from tersor.mapped_layer import MappedLayer
from tersor.roofline_picture import colours_of, draw_roofline

ENERGY_COLUMN = 5.5


def machine_picture(found: MachineMap, hardware: Hardware, title: str, path: Path) -> None:
    """Draw a map to `path` (.png, .svg); equal maps give equal files.

    Raises UserError if matplotlib is not installed, or the file cannot be written.
    """
    colours = colours_of(hardware)
    height = 0.8 + 0.17 * len(found.layers)
    with figure(8.0, ENERGY_COLUMN + height) as drawn:
        roofs, energies = drawn.subplots(2, 1, height_ratios=(ENERGY_COLUMN, height))
        drawn.suptitle(f"{title}, {found.scheme} on {found.hardware}, mapped for {found.goal}")
        draw_roofline(roofs, found.layers, hardware, colours)
        _draw_energies(energies, found.layers, colours)
        save_figure(drawn, path)


def _draw_energies(axes: Any, layers: tuple[MappedLayer, ...], colours: dict[str, str]) -> None:
    places = range(len(layers))
    before = [0.0] * len(layers)
    for level, colour in colours.items():
        values = [layer.energy_by[level] / 1e6 for layer in layers]
        axes.barh(places, values, left=before, color=colour, label=level, height=0.75)
        before = [start + value for start, value in zip(before, values, strict=True)]
    axes.set_yticks(
        places, [f"{shortened(layer.name)} {number}" for number, layer in enumerate(layers, 1)], fontsize=6
    )
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlabel("energy, uJ")
    axes.legend(loc="best", fontsize=7)
