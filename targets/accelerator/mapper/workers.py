"""Workers: one function on many tasks, on all cores where processes can be forked, else one by one.

Forked processes have every module at once; started anew, each would first import a compiler for seconds.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
_LOOKING = 0.5  # s between two looks of a worker whether its parent is there


def in_workers(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None = None
) -> Generator[tuple[int, Result], None, None]:
    """Each task's number with its result, as they are done; `workers` are one for each core if not given.

    What no process gives, as none can be started or one ends early, is worked out here. Raises what
    `function` raises. Closed before its end, it waits only for what has been begun.
    """
    workers = min(workers or _cores(), len(tasks))
    left = set(range(len(tasks)))
    if workers > 1 and _may_fork():
        try:
            forked, ending = get_context("fork"), (os.getpid(),)
            with ProcessPoolExecutor(workers, forked, _end_with, ending) as pool:
                numbers = {pool.submit(function, task): number for number, task in enumerate(tasks)}
                try:
                    for future in as_completed(numbers):
                        result = future.result()
                        left.remove(numbers[future])
                        yield numbers[future], result
                finally:
                    pool.shutdown(cancel_futures=True)
        except (OSError, BrokenProcessPool):  # no room for processes; what is left is done here
            pass
    for number in sorted(left):
        yield number, function(tasks[number])


def _end_with(parent: int) -> None:
    """Make a worker end soon after its parent, which tells it nothing if it is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKING)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _may_fork() -> bool:
    """Whether processes fork safely here, and this one may have children."""
    return sys.platform == "linux" and not current_process().daemon
