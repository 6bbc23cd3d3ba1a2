"""Heat table: the noise of each scheme of each layer by itself, as colours; and why some have none.

A table and not a picture: names of layers wrap, cells say more when pointed at, and reasons are text.
"""

from tersor.autoscheduler.page.amounts import amount, count_of, decibels, ratio_decibels
from tersor.autoscheduler.page.layer_table import scheme_colours, scheme_tag
from tersor.autoscheduler.page.markup import Cell, Markup, code, element, paragraph, table
from tersor.autoscheduler.report import SearchCell, SearchReport

# From dark to light in equal steps of lightness, as in the maps of `tersor sensitivity`: sRGB.
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
LEAST_TOP, MOST_TOP = 10.0, 60.0  # dB that the lightest colour stands for


def heat_table(report: SearchReport) -> Markup:
    """Layers down and schemes across, in dB; the chosen ones are framed."""
    measured = [cell for cell in report.cells if cell.loss is not None]
    if not measured:
        return Markup()
    cells = {(cell.layer, str(cell.scheme)): cell for cell in report.cells}
    schemes = list(dict.fromkeys(str(cell.scheme) for cell in measured))
    names = list(dict.fromkeys(cell.layer for cell in report.cells))
    chosen = {layer.name: str(layer.scheme) for layer in report.layers}
    ratios = [ratio for cell in measured if (ratio := decibels(cell.loss or 0.0)) is not None]
    top = min(max([LEAST_TOP, *ratios]), MOST_TOP)
    rows = []
    for name in names:
        row = (_cell(cells.get((name, each)), chosen.get(name) == each, top) for each in schemes)
        rows.append(("", [Cell(code(name)), *row]))
    says = (
        "Signal-to-noise ratio at the worst output, in dB, with this layer alone compressed: higher is "
        "better. The chosen scheme is framed; a hatched cell was refused. Schemes that no layer can have are "
        "left out."
    )
    return Markup.of(paragraph(says), _scale(top), table(("layer", *schemes), rows, "heat"))


def refusals(report: SearchReport) -> Markup:
    """Schemes that layers cannot have, those of the same reason together, and what is no layer at all."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for cell in report.cells:
        if cell.reason:
            grouped.setdefault((str(cell.scheme), cell.reason), []).append(cell.layer)
    colours = scheme_colours(report)
    rows: list[tuple[str, list[Cell | str]]] = [
        ("", [Cell(scheme_tag(scheme, colours)), reason, _layers(layers)])
        for (scheme, reason), layers in grouped.items()
    ]
    rows += [
        ("", ["fp32", each.reason, Cell(Markup.of(code(each.name), f" ({each.operator})"))])
        for each in report.fallbacks
    ]
    return table(("refused", "reason", "layers"), rows, "refusals") if rows else Markup()


def shade(ratio: float, top: float) -> tuple[str, str]:
    """The colours of a cell of `ratio` dB and of the text on it."""
    place = min(max(ratio / top, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    red, green, blue = (
        round(one + (other - one) * (place - low))
        for one, other in zip(RAMP[low], RAMP[low + 1], strict=True)
    )
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 125
    return f"#{red:02x}{green:02x}{blue:02x}", "#000" if light else "#fff"


def _cell(cell: SearchCell | None, is_chosen: bool, top: float) -> Cell:
    if cell is None:
        return Cell("")
    kind = "picked" if is_chosen else ""
    if cell.loss is None:
        return Cell("", kind=f"refused {kind}".strip(), title=cell.reason)
    ratio = decibels(cell.loss)
    ground, text = shade(top if ratio is None else ratio, top)
    shown = "∞" if ratio is None else f"{ratio:.0f}"
    style = f"background:{ground};color:{text}"
    return Cell(element("span", shown, style=style), top if ratio is None else ratio, kind, _title(cell))


def _title(cell: SearchCell) -> str:
    words = [f"{cell.scheme}: {ratio_decibels(cell.loss or 0.0)}"]
    if cell.cost and cell.cost.seconds:
        words.append(amount("latency", cell.cost.seconds))
    if cell.cost and cell.cost.energy:
        words.append(amount("energy", cell.cost.energy))
    if cell.cost and cell.cost.size:
        words.append(amount("size", cell.cost.size))
    return ", ".join(words)


def _scale(top: float) -> Markup:
    stops = ", ".join(shade(top * part / 4, top)[0] for part in range(5))
    strip = element("span", class_="strip", style=f"background:linear-gradient(90deg, {stops})")
    return paragraph("0 dB ", strip, f" {top:.0f} dB or more", class_="scale")


def _layers(names: list[str]) -> Cell:
    listed = Markup(", ".join(code(name) for name in names))
    if len(names) <= 3:
        return Cell(listed)
    return Cell(element("details", element("summary", count_of(len(names), "layer")), listed))
