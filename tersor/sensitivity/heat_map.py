"""Heat map: the sensitivities of a model as a picture, layers down and schemes across. Needs matplotlib."""

from pathlib import Path

import numpy as np

from tersor.drawing import figure, save_figure, shortened
from tersor.sensitivity.sensitivity import Sensitivity


def heat_map(found: Sensitivity, paths: list[Path]) -> None:
    """Draw the measured ratios, in the format that each path's ending names (.png, .svg).

    Equal results give equal files. Raises UserError if matplotlib is not installed, or a file cannot be
    written.
    """
    layers, schemes = found.layers, found.schemes
    by_cell = {(cell.layer, cell.scheme): cell.snr_db for cell in found.cells}
    values = np.array([[by_cell[layer, scheme] for scheme in schemes] for layer in layers], np.float64)
    with figure(4.2 + 0.75 * len(schemes), 1.3 + 0.2 * len(layers)) as drawn:
        axes = drawn.add_subplot()
        axes.set_facecolor("0.85")  # of a cell without a number
        image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=_top(values))
        axes.set_xticks(range(len(schemes)), [str(scheme) for scheme in schemes], rotation=30, ha="left")
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(layers)), [shortened(layer) for layer in layers])
        for row, column in np.argwhere(np.isfinite(values)):
            value = values[row, column]
            colour = "white" if value < 0.55 * _top(values) else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
        axes.set_title(f"{found.model}: output SNR in dB, one layer compressed", pad=12)
        drawn.colorbar(image, ax=axes, label="dB", shrink=min(1.0, 12 / len(layers)))
        for path in paths:
            save_figure(drawn, path)


def _top(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return max(10.0, min(60.0, float(finite.max()))) if finite.size else 60.0
