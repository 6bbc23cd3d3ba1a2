"""Roofline picture: layers under the roofs of a machine, as they are mapped or as they were simulated.

The roofline is hierarchical (Williams et al., CACM 2009; Yang et al., Concurrency and Computation 2020): a
layer has a mark for each memory, at the MAC that it makes for each byte that this memory moves, and at the
MAC that it makes in a cycle. No mark is above the roof of its memory or of its arithmetic.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tersor.hardware import Hardware, Memory
from tersor.mapped_layer import MappedLayer
from tersor.simulated_layer import SimulatedLayer

LARGEST = 200.0  # square points of the mark of the layer that takes the most cycles
SMALLEST = 10.0
NUMBERED = 10  # layers of the most cycles that are numbered

Drawn = MappedLayer | SimulatedLayer


def colours_of(hardware: Hardware) -> dict[str, str]:
    """Give compute and each memory a colour."""
    names = ["compute", *(memory.name for memory in hardware.memories)]
    return {name: f"C{place}" for place, name in enumerate(names)}


def bytes_per_cycle(hardware: Hardware, memory: Memory) -> float:
    """Bytes that all memories of a level read and write in a cycle at most."""
    bandwidth = hardware.read_bandwidth(memory)
    if memory.bandwidth is None:  # ports of their own for writes
        bandwidth += hardware.write_bandwidth(memory)
    return hardware.instances(memory) * bandwidth / hardware.clock


def arithmetic_roofs(layers: Sequence[Drawn], hardware: Hardware) -> dict[str, float]:
    """MAC per cycle of each number format, and of the layers' schemes where these are others."""
    roofs = {unit.precision: unit.macs_per_cycle for unit in hardware.compute}
    for layer in layers:
        if layer.macs and layer.peak not in roofs.values():
            roofs[layer.scheme] = layer.peak
    return roofs


def draw_roofline(axes: Any, drawn: Sequence[Drawn], hardware: Hardware, colours: Mapping[str, str]) -> None:
    """Draw the layers that make products; numbers are those of the layers among `drawn`, from 1."""
    layers = [layer for layer in drawn if layer.macs]
    arithmetic = arithmetic_roofs(layers, hardware)
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
    for number, layer in enumerate(drawn, 1):
        if layer in most[:NUMBERED]:
            place = (layer.macs / layer.bytes[outermost], layer.macs / layer.cycles)
            numbers.setdefault(place, number)
    for place, number in numbers.items():
        axes.annotate(str(number), place, ha="center", va="center", fontsize=6)
    _label_roofline(axes, layers, marks, (left, right, top), colours, outermost)


def _label_roofline(
    axes: Any,
    layers: Sequence[Drawn],
    marks: list[tuple[float, float, str, Drawn]],
    limits: tuple[float, float, float],
    colours: Mapping[str, str],
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
    bounds = dict.fromkeys(layer.bound_by for layer in layers)
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
