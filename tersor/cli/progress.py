"""A progress bar on stderr for the steps of a command; silent where stderr is no terminal."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from tersor.compiler import Progress


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a function that shows a step: what is done, how far, and of how many (None: unknown)."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bars = Bars(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    with bars:

        def show(what: str, done: int, total: int | None) -> None:
            if not bars.tasks or bars.tasks[-1].description != what:
                for finished in bars.task_ids:
                    bars.remove_task(finished)
                bars.add_task(what, total=total, completed=done)
            else:
                bars.update(bars.task_ids[-1], completed=done, total=total)

        yield show
