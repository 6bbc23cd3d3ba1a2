"""Rows of a benchmark: one table to read, the same as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure; with a `goal`, `ok` says whether it is reached."""

    table: str
    case: str
    model: str
    backend: str
    metric: str
    value: float | None
    goal: float | None = None
    direction: Literal[">=", "<="] | None = None
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a value."""
        if self.goal is None or self.value is None:
            return None
        return self.value >= self.goal if self.direction == ">=" else self.value <= self.goal


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print a line for each model and backend, a column for each metric, then the goals."""
    metrics = list(dict.fromkeys(row.metric for row in rows if row.goal is None and row.value is not None))
    table = Table("model", "backend", *metrics, title=title, title_justify="left")
    for model, backend in dict.fromkeys((row.model, row.backend) for row in rows):
        found = {row.metric: row.value for row in rows if (row.model, row.backend) == (model, backend)}
        if found.keys() & set(metrics):
            table.add_row(model, backend, *(_shown(found.get(metric)) for metric in metrics))
    console = Console(width=140, highlight=False)
    console.print(table)
    for row in rows:
        if row.goal is not None:
            verdict = {True: "reached", False: "MISSED", None: "not measured"}[row.ok]
            what = f"{row.model} {row.backend} {row.metric} {_shown(row.value)}"
            console.print(f"{what} (goal {row.direction} {row.goal:g}): {verdict}")
    for note in dict.fromkeys(row.note for row in rows if row.note):
        console.print(note)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as JSON."""
    path.write_text(json.dumps([{**asdict(row), "ok": row.ok} for row in rows], indent=1) + "\n")


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10_000 or value == int(value) else f"{value:.4g}"
