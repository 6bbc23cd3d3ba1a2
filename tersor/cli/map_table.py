"""The table of `tersor map`: a row for each layer, the factors of one below it, and what is missing."""

from collections.abc import Iterator

from rich.table import Table

from tersor.hardware import Hardware
from tersor.machine_map import MachineMap
from tersor.mapped_layer import MappedLayer

LONGEST_NAME = 30  # letters of a layer's name; of a longer one the end is shown


def map_table(title: str, found: MachineMap, hardware: Hardware) -> Table:
    """Lay out cycles, use of the array, what bounds each layer, and its energy by level in uJ."""
    milliseconds = 1e3 * found.cycles / hardware.clock
    what = f"{title}, {found.scheme} on {found.hardware} for {found.goal}"
    table = Table(
        title=f"{what}: {milliseconds:.3g} ms, {microjoules(found.energy)} uJ (energies in uJ)",
        title_justify="left",
        show_footer=True,
    )
    levels = ["compute", *(memory.name for memory in hardware.memories)]
    several = len({layer.scheme for layer in found.layers}) > 1
    table.add_column("layer", "total", overflow="fold")
    if several:
        table.add_column("scheme", overflow="fold")
    table.add_column("cycles", f"{found.cycles:,.0f}", justify="right")
    table.add_column("used", justify="right")
    table.add_column("bound by", overflow="fold")
    table.add_column("energy", microjoules(found.energy), justify="right")
    for level in levels:
        total = sum(layer.energy_by[level] for layer in found.layers)
        table.add_column(level, microjoules(total), justify="right")
    table.add_column("gap", justify="right")
    before = ""
    named = shortened_names([layer.part_of or layer.name for layer in found.layers])
    for layer in found.layers:
        if layer.part_of and layer.part_of != before:
            parts = [each for each in found.layers if each.part_of == layer.part_of]
            table.add_row(named[layer.part_of], *_together(parts, levels, several))
        before = layer.part_of
        name = f"  {layer.name.removeprefix(layer.part_of)}" if layer.part_of else named[layer.name]
        table.add_row(name, *_cells(layer, levels, several))
    return table


def notes(found: MachineMap) -> Iterator[str]:
    """Say what is not in the table, or not as it was asked for, and why."""
    for reason, names in grouped(found.reduced).items():
        yield f"mapped as {reason}: {', '.join(names)}"
    for reason, names in grouped(found.refused).items():
        yield f"not mapped: {', '.join(names)}: {reason}"
    if found.others:
        counted = ", ".join(f"{count} {name}" for name, count in found.others.items())
        yield (
            "not mapped, and in no total: operators outside of layers, which are no loops of products "
            f"({counted})"
        )


def _cells(layer: MappedLayer, levels: list[str], several: bool) -> list[str]:
    gap = "exact" if layer.exact else "" if layer.gap is None else f"{100 * layer.gap:.1f} %"
    return [
        *([layer.scheme] if several else []),
        f"{layer.cycles:,.0f}",
        f"{100 * layer.utilisation:.0f} %" if layer.macs else "",
        layer.bound_by,
        microjoules(layer.energy),
        *(microjoules(layer.energy_by[level]) for level in levels),
        gap,
    ]


def _together(parts: list[MappedLayer], levels: list[str], several: bool) -> list[str]:
    return [
        *([""] if several else []),
        f"{sum(part.cycles for part in parts):,.0f}",
        "",
        "",
        microjoules(sum(part.energy for part in parts)),
        *(microjoules(sum(part.energy_by[level] for part in parts)) for level in levels),
        "",
    ]


def shortened_names(names: list[str]) -> dict[str, str]:
    """Leave out the beginnings of long names, unless some would be the same."""
    short = {name: f"...{name[3 - LONGEST_NAME :]}" if len(name) > LONGEST_NAME else name for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def microjoules(picojoules: float) -> str:
    """Write an energy in uJ."""
    value = picojoules / 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def grouped(reasons: dict[str, str]) -> dict[str, list[str]]:
    """Give for each reason the names that have it."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names
