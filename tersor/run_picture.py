"""Run picture: a network's time on a simulated machine, the longest layer's first transfers, and the roofs.

The transfers (a Gantt chart) are those between the outermost memory and the next that keeps the operand. A
bar begins when its tile could come or leave, and ends when it has arrived: transfers share the bandwidth.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tersor.drawing import figure, save_figure, shortened
from tersor.hardware import Hardware
from tersor.machine_run import MachineRun
from tersor.roofline_picture import colours_of, draw_roofline
from tersor.simulated_layer import SimulatedLayer
from tersor.targets.accelerator.simulator.result import Event
from tersor.targets.accelerator.simulator.state import MOST_EVENTS

OPERAND_COLOURS = {"weight": "C4", "input": "C8", "output": "C9"}  # others than those of memories
NUMBERED = 0.02  # of all cycles, of a layer whose number is written

WAITS = "array waits for"


def run_picture(run: MachineRun, hardware: Hardware, title: str, path: Path) -> None:
    """Draw a run to `path` (.png, .svg); equal runs give equal files.

    Raises UserError if matplotlib is not installed, or the file cannot be written.
    """
    with figure(9.0, 11.0) as drawn:
        whole, longest, roofs = drawn.subplots(3, 1, height_ratios=(2.6, 2.6, 5.5))
        drawn.suptitle(f"{title}, {run.scheme}, simulated on {run.hardware}")
        colours = colours_of(hardware)
        _draw_network(whole, run.layers, colours)
        _draw_layer(longest, *max(enumerate(run.layers, 1), key=lambda each: each[1].cycles))
        draw_roofline(roofs, run.layers, hardware, colours)
        save_figure(drawn, path)


def first_events(events: Sequence[Event]) -> tuple[dict[str, list[Event]], float]:
    """Give transfers and waits by what they are, and the cycle up to which none was left out."""
    kept = Counter(event.operand for event in events)
    latest = {event.operand: event.begin for event in sorted(events, key=lambda event: event.begin)}
    ends = [latest[operand] for operand, count in kept.items() if count >= MOST_EVENTS]
    end = min(ends, default=max((event.end for event in events), default=0.0))
    rows: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: (event.kind == "waits", event.begin)):
        rows.setdefault(_row(event), [])
        if event.begin < end:
            rows[_row(event)].append(event)
    return rows, end


def _row(event: Event) -> str:
    match event.kind:
        case "comes":
            return f"{event.operand} to {event.memory}"
        case "leaves":
            return f"{event.operand} leaves {event.memory}"
        case "waits":
            return WAITS


def _draw_network(axes: Any, layers: Sequence[SimulatedLayer], colours: Mapping[str, str]) -> None:
    """Draw the part of each layer's cycles that compute and each memory are at work."""
    total, begin = sum(layer.cycles for layer in layers), 0.0
    for number, layer in enumerate(layers, 1):
        for place, (name, colour) in enumerate(colours.items()):
            height = 0.8 * min(1.0, layer.at_work[name] / layer.cycles)
            axes.broken_barh([(begin, layer.cycles)], (place - 0.4, 0.8), facecolors="0.94")
            axes.broken_barh([(begin, layer.cycles)], (place + 0.4 - height, height), facecolors=colour)
        if layer.cycles >= NUMBERED * total:
            middle = begin + layer.cycles / 2
            axes.annotate(str(number), (middle, -0.45), ha="center", va="bottom", fontsize=6)
        begin += layer.cycles
        axes.axvline(begin, color="0.6", linewidth=0.4)
    axes.set_title("all layers one after the other, by number: which part of its cycles each is at work")
    _label(axes, list(colours), total)


def _draw_layer(axes: Any, number: int, layer: SimulatedLayer) -> None:
    """Draw transfers in two lanes in turn, as a memory has two places, and when the array waits for them."""
    rows, end = first_events(layer.events)
    for place, events in enumerate(rows.values()):
        for turn, event in enumerate(events):
            waits = event.kind == "waits"
            lane = (place - 0.38, 0.76) if waits else (place - 0.38 + 0.38 * (turn % 2), 0.36)
            span = [(event.begin, event.end - event.begin)]
            edge = {} if waits else {"edgecolors": "white", "linewidth": 0.3}
            axes.broken_barh(span, lane, facecolors=OPERAND_COLOURS[event.operand], **edge)
    axes.set_title(f"the first transfers of {number}, {shortened(layer.name)}, from when each could begin")
    _label(axes, list(rows), end or layer.cycles)


def _label(axes: Any, names: list[str], end: float) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.8)
    axes.set_xlim(0, end)
    axes.set_xlabel("cycles")
