"""Machine picture: a network's layers under the roofs of a machine, and their energy by level.

The roofline is hierarchical (Williams et al., CACM 2009; Yang et al., Concurrency and Computation 2020): a
layer has a mark for each memory, at the MAC that it makes for each byte that this memory moves as mapped,
and at the MAC that it makes in a cycle. No mark is above the roof of its memory or of its arithmetic. Needs
matplotlib.
"""

from pathlib import Path
from typing import Any

from tersor.drawing import figure, save_figure, shortened
from tersor.hardware import Hardware, Memory
from tersor.machine_map import MachineMap
from tersor.mapped_layer import MappedLayer

LARGEST = 200.0  # square points of the mark of the layer that takes the most cycles
SMALLEST = 10.0
NUMBERED = 10  # layers of the most cycles that are numbered
ENERGY_COLUMN = 5.5


def machine_picture(found: MachineMap, hardware: Hardware, title: str, path: Path) -> None:
    """Draw a map to `path` (.png, .svg); equal maps give equal files.

    Raises UserError if matplotlib is not installed, or the file cannot be written.
    """
    names = ["compute", *(memory.name for memory in hardware.memories)]
    colours = {name: f"C{place}" for place, name in enumerate(names)}
    height = 0.8 + 0.17 * len(found.layers)
    with figure(8.0, ENERGY_COLUMN + height) as drawn:
        roofs, energies = drawn.subplots(2, 1, height_ratios=(ENERGY_COLUMN, height))
        drawn.suptitle(f"{title}, {found.scheme} on {found.hardware}, mapped for {found.goal}")
        _draw_roofline(roofs, found, hardware, colours)
        _draw_energies(energies, found.layers, colours)
        save_figure(drawn, path)


def bytes_per_cycle(hardware: Hardware, memory: Memory) -> float:
    """Bytes that all memories of a level read and write in a cycle at most."""
    bandwidth = hardware.read_bandwidth(memory)
    if memory.bandwidth is None:  # ports of their own for writes
        bandwidth += hardware.write_bandwidth(memory)
    return hardware.instances(memory) * bandwidth / hardware.clock


def arithmetic_roofs(found: MachineMap, hardware: Hardware) -> dict[str, float]:
    """MAC per cycle of each number format, and of the layers' schemes where these are others."""
    roofs = {unit.precision: unit.macs_per_cycle for unit in hardware.compute}
    for layer in found.layers:
        if layer.macs and layer.peak not in roofs.values():
            roofs[layer.scheme] = layer.peak
    return roofs


def _draw_roofline(axes: Any, found: MachineMap, hardware: Hardware, colours: dict[str, str]) -> None:
    layers = [layer for layer in found.layers if layer.macs]
    arithmetic = arithmetic_roofs(found, hardware)
    top = max(arithmetic.values())
    bandwidths = {memory.name: bytes_per_cycle(hardware, memory) for memory in hardware.memories}
    marks = [
        (layer.macs / layer.bytes[name], layer.macs / layer.cycles, name, layer)
        for layer in layers
        for name in bandwidths
        if layer.bytes[name]
    ]
    ridges = [top / bandwidth for bandwidth in bandwidths.values()]
    left = min([mark[0] for mark in marks] + ridges) / 2
    right = max([mark[0] for mark in marks] + ridges) * 2
    for name, peak in arithmetic.items():
        axes.plot([left, right], [peak, peak], color="0.5", linewidth=0.8)
        axes.text(right, peak, f" {name}: {peak:g}", va="center", ha="left", color="0.3")
    for name, bandwidth in bandwidths.items():
        ends = [left, min(right, top / bandwidth)]
        label = f"{name}: {bandwidth:.4g} bytes in a cycle"
        axes.plot(ends, [bandwidth * end for end in ends], color=colours[name], linewidth=1.2, label=label)
    most = sorted(layers, key=lambda layer: -layer.cycles)
    outermost = hardware.memories[0].name
    for intensity, rate, name, layer in marks:
        area = max(SMALLEST, LARGEST * layer.cycles / most[0].cycles)
        inner = {"s": area / 4, "facecolors": "none", "linewidths": 0.6, "alpha": 0.7}
        outer = {"s": area, "facecolors": colours[layer.bound_by], "linewidths": 0.8, "alpha": 0.7}
        style = outer if name == outermost else inner
        axes.scatter(intensity, rate, edgecolors=colours[name], **style)
    numbers: dict[tuple[float, float], int] = {}  # of layers of one shape the first
    for number, layer in enumerate(found.layers, 1):
        if layer in most[:NUMBERED]:
            place = (layer.macs / layer.bytes[outermost], layer.macs / layer.cycles)
            numbers.setdefault(place, number)
    for place, number in numbers.items():
        axes.annotate(str(number), place, ha="center", va="center", fontsize=6)
    _label_roofline(axes, found, marks, (left, right, top), colours, outermost)


def _label_roofline(
    axes: Any,
    found: MachineMap,
    marks: list[tuple[float, float, str, MappedLayer]],
    limits: tuple[float, float, float],
    colours: dict[str, str],
    outermost: str,
) -> None:
    left, right, top = limits
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min([mark[1] for mark in marks], default=top) / 3, top * 2)
    axes.set_xlabel("MAC per byte that the memory moves")
    axes.set_ylabel("MAC per cycle")
    axes.grid(True, which="major", color="0.9", linewidth=0.5)
    bounds = dict.fromkeys(layer.bound_by for layer in found.layers if layer.macs)
    for name in bounds:
        axes.scatter(
            [],
            [],
            s=40,
            facecolors=colours[name],
            edgecolors=colours[outermost],
            alpha=0.7,
            label=f"at {outermost}, bound by {name}",
        )
    axes.scatter([], [], s=12, facecolors="none", edgecolors="0.3", label="the same at an inner memory")
    axes.legend(loc="lower right", fontsize=7, title="area of a mark: its cycles", title_fontsize=7)


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
