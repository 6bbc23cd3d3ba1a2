"""Markup: HTML from nested calls. Text is escaped wherever it is put in, unless it is `Markup` already."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Self


class Markup(str):
    """Text that is HTML; what is joined of it and of plain text has the plain text escaped."""

    __slots__ = ()

    @classmethod
    def of(cls, *children: str) -> Self:
        """Join markup and plain text."""
        return cls("".join(each if isinstance(each, Markup) else escape(each) for each in children))


VOID = ("meta", "wbr")


def element(tag: str, /, *children: str, **attributes: str) -> Markup:
    """Give an element; of an attribute's name underscores become hyphens, and a last one is dropped."""
    written = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    end = "" if tag in VOID else f"</{tag}>"
    return Markup(f"<{tag}{written}>{Markup.of(*children)}{end}")


def section(anchor: str, title: str, *children: str) -> Markup:
    """A part of the page with a heading; nothing if it has no content."""
    content = Markup.of(*children)
    return element("section", element("h2", title), content, id=anchor) if content else Markup()


def code(name: str) -> Markup:
    """A layer's name, which may break behind the signs that part it."""
    parts = re.split(r"(?<=[._/:])(?=[^._/:])", name)
    return element("code", Markup(element("wbr").join(Markup.of(part) for part in parts)))


def paragraph(*children: str, class_: str = "said") -> Markup:
    """A paragraph."""
    return element("p", *children, class_=class_)


@dataclass(frozen=True)
class Cell:
    """A cell of a table, and what it is sorted by, of a number."""

    content: str
    value: float | None = None
    kind: str = ""  # its class
    title: str = ""  # shown when pointed at


Row = Sequence[Cell | str]


def table(columns: Sequence[str], rows: Iterable[tuple[str, Row]], kind: str = "") -> Markup:
    """A table of rows with their classes, the first cell of each its name; it may be wider than the page.

    Columns of numbers alone are aligned to the right.
    """
    cells = [(row_kind, [_as_cell(each) for each in row]) for row_kind, row in rows]
    numbers = [all(_is_number(row[place]) for _, row in cells) for place in range(len(columns))]
    head = (
        element("th", name, scope="col", **({"class_": "number"} if is_number else {}))
        for name, is_number in zip(columns, numbers, strict=True)
    )
    body = (_row(row, row_kind) for row_kind, row in cells)
    named = {"class_": kind} if kind else {}
    inner = element("table", element("thead", element("tr", *head)), element("tbody", *body), **named)
    return element("div", inner, class_="wide", tabindex="0")


def _as_cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def _is_number(cell: Cell) -> bool:
    return cell.value is not None and not cell.kind


def _row(cells: Sequence[Cell], kind: str) -> Markup:
    first, *others = cells
    named = {"class_": kind} if kind else {}
    return element("tr", _cell("th", first, scope="row"), *(_cell("td", cell) for cell in others), **named)


def _cell(name: str, cell: Cell, **attributes: str) -> Markup:
    kind = "number" if _is_number(cell) else cell.kind
    attributes |= {"class_": kind} if kind else {}
    attributes |= {"data_value": f"{cell.value:.6g}"} if cell.value is not None else {}
    attributes |= {"title": cell.title} if cell.title else {}
    return element(name, cell.content, **attributes)


def bar(share: float, *marks: str, colour: str = "") -> Markup:
    """A bar over a part of its place, 0 to 1, with its marks."""
    style = f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"
    return element(
        "span", element("span", class_=f"fill {colour}".strip(), style=style), *marks, class_="bar"
    )


def mark(share: float) -> Markup:
    """A line across a bar's place, at a part of it."""
    return element("span", class_="mark", style=f"left:{100 * min(max(share, 0.0), 1.0):.1f}%")
