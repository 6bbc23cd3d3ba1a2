"""Drawing: figures of matplotlib, where it is installed, and files that are equal for equal pictures."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from tersor.error import UserError

FORMATS = (".png", ".svg")
LONGEST_NAME = 44  # letters of a layer's name in a picture; of a longer one the end is shown


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """Give a figure of `width` by `height` inches to draw on. Raises UserError without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("drawing needs matplotlib: pip install 'tersor[plot]'") from error
    with rc_context({"svg.hashsalt": "tersor", "font.size": 8}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn


def save_figure(drawn: Any, path: Path) -> None:
    """Write a figure in the format of `path`'s ending, one of `FORMATS`. Raises UserError."""
    check_format(path)
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    try:
        drawn.savefig(path, dpi=150, metadata=metadata)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def inline_svg(
    drawn: Any, name: str, label: str, colours: Mapping[str, str], titles: Mapping[str, str]
) -> str:
    """Give a figure as an SVG element to put into a page, its text as text in the page's font.

    `name` is what its identifiers begin with, which no other element of the page may have; `label` is what it
    shows, in words. `colours` are by what stands for them in the figure, as "#1f77b4": anything that CSS
    takes, so that a page may have others on black. `titles` are by the identifiers (gid) of the parts that
    show them when pointed at.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawn.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawing = file.getvalue()
    _, size, content = re.split(r"<svg[^>]*(viewBox=\"[^\"]*\")[^>]*>", drawing, maxsplit=1)
    content = re.sub(r"<style.*?</style>", "", content, flags=re.DOTALL)  # it would be the whole page's
    content = re.sub(r" font-family: [^;\"]*;?", "", content)
    content = content.replace("xlink:href", "href").replace(' target="_blank"', "")
    content = re.sub(r'id="([^"]*)"', rf'id="{name}-\1"', content)
    content = re.sub(r'href="#(m[0-9a-f]+)"', rf'href="#{name}-\1"', content)
    content = content.replace("url(#", f"url(#{name}-")
    for colour, shown in colours.items():
        content = content.replace(colour, shown)
    for part, title in titles.items():
        content = content.replace(
            f'<g id="{name}-{part}">', f'<g id="{name}-{part}"><title>{escape(title)}</title>'
        )
    return f'<svg {size} role="img" aria-label="{escape(label)}">{content.rstrip()}'


def check_format(path: Path) -> None:
    """Raise UserError unless a picture can have the ending of `path`."""
    if path.suffix not in FORMATS:
        raise UserError(f"a picture's file ends in {' or '.join(FORMATS)}, got {path}")


def shortened(name: str) -> str:
    """Leave out the beginning of a long name."""
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"
