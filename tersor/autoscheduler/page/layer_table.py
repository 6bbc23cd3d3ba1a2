"""Layer table: each layer of the chosen plan with its scheme, and bars of what it takes."""

from collections.abc import Mapping

from tersor.autoscheduler.page.amounts import NAMES, amount, count_of, known_amount, ratio_decibels
from tersor.autoscheduler.page.markup import Cell, Markup, bar, code, element, mark, paragraph, table
from tersor.autoscheduler.report import SearchedLayer, SearchReport
from tersor.scheduler.contract import Quantity, quantity_of

BARS: tuple[Quantity, ...] = ("latency", "energy", "size")
COLOURS = 8  # of schemes in the page's style


def scheme_colours(report: SearchReport) -> dict[str, str]:
    """Give each scheme the class of a colour, in the order in which they first appear."""
    names = [str(cell.scheme) for cell in report.cells] + [str(layer.scheme) for layer in report.layers]
    return {name: f"scheme{place % COLOURS}" for place, name in enumerate(dict.fromkeys(names))}


def scheme_tag(scheme: str, colours: Mapping[str, str]) -> Markup:
    """A scheme's name behind its colour."""
    return element("span", element("i", class_=colours.get(scheme, "")), scheme, class_="scheme")


def scheme_counts(report: SearchReport) -> Markup:
    """Say how many layers have each scheme."""
    colours = scheme_colours(report)
    counts = dict.fromkeys((str(layer.scheme) for layer in report.layers), 0)
    for layer in report.layers:
        counts[str(layer.scheme)] += 1
    most = sorted(counts.items(), key=lambda each: -each[1])
    tags = (element("li", scheme_tag(name, colours), f" {count_of(n, 'layer')}") for name, n in most)
    return element("ul", *tags, class_="counts") if most else Markup()


def layer_table(report: SearchReport) -> Markup:
    """All layers in the network's order; bars are beside the largest layer, lines the baseline's."""
    colours, layers = scheme_colours(report), report.layers
    if not layers:
        return Markup()
    costs = [cost for layer in layers for cost in (layer.cost, layer.baseline) if cost]
    most: dict[Quantity, float] = {each: max(quantity_of(cost, 0.0, each) for cost in costs) for each in BARS}
    most = {each: value for each, value in most.items() if value}
    rows = [("", _row(layer, colours, most)) for layer in layers]
    says = "A bar is what a layer takes beside the layer that takes the most"
    if report.baseline and any(layer.baseline for layer in layers):
        says += f"; the line across is what it takes with {report.baseline.name}"
    harm = ["signal to noise"] if any(layer.loss is not None for layer in layers) else []
    names = ("layer", "scheme", *(NAMES[each] for each in most), *harm)
    return Markup.of(paragraph(f"{says}."), table(names, rows, "layers"))


def _row(
    layer: SearchedLayer, colours: Mapping[str, str], most: Mapping[Quantity, float]
) -> list[Cell | str]:
    scheme = str(layer.scheme)
    bars = []
    for quantity, largest in most.items():
        value = quantity_of(layer.cost, 0.0, quantity)
        before = quantity_of(layer.baseline, 0.0, quantity) if layer.baseline else 0.0
        drawn = bar(value / largest, *([mark(before / largest)] if before else []), colour=colours[scheme])
        title = f"{amount(quantity, before)} with the baseline" if before else ""
        bars.append(Cell(Markup.of(known_amount(quantity, value), " ", drawn), value, "barred", title))
    harm = [] if layer.loss is None else [Cell(ratio_decibels(layer.loss), layer.loss)]
    return [_name(layer), Cell(scheme_tag(scheme, colours)), *bars, *harm]


def _name(layer: SearchedLayer) -> Cell:
    notes = [element("small", f"shares its weight with {layer.tied_to}")] if layer.tied_to else []
    if layer.reason:
        notes.append(element("details", element("summary", "why"), element("small", layer.reason)))
    if layer.mapping:
        notes.append(element("details", element("summary", "loops"), element("pre", layer.mapping)))
    return Cell(Markup.of(code(layer.name), *notes))
