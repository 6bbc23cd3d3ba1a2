"""A progress bar on stderr for the steps of a command; silent where stderr is no terminal."""

import contextlib
import signal
from collections.abc import Callable, Iterator

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
    with bars, _interruption() as check:

        def show(what: str, done: int, total: int | None) -> None:
            check()
            if not bars.tasks or bars.tasks[-1].description != what:
                for finished in bars.task_ids:
                    bars.remove_task(finished)
                bars.add_task(what, total=total, completed=done)
            else:
                bars.update(bars.task_ids[-1], completed=done, total=total)

        yield show


@contextlib.contextmanager
def _interruption() -> Iterator[Callable[[], None]]:
    """Give a function that raises KeyboardInterrupt after Ctrl-C, which callbacks from C++ can swallow."""
    pressed: list[int] = []

    def press(number: int, _frame: object) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield check
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
