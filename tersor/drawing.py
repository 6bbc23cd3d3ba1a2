"""Drawing: figures of matplotlib, where it is installed, and files that are equal for equal pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
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


def check_format(path: Path) -> None:
    """Raise UserError unless a picture can have the ending of `path`."""
    if path.suffix not in FORMATS:
        raise UserError(f"a picture's file ends in {' or '.join(FORMATS)}, got {path}")


def shortened(name: str) -> str:
    """Leave out the beginning of a long name."""
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"
