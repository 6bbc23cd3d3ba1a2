import multiprocessing
import os
import time
from concurrent.futures.process import ProcessPoolExecutor
from multiprocessing.connection import Connection

import pytest

from tersor.targets.accelerator.mapper.workers import in_workers


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


def process(_: int) -> int:
    return os.getpid()


def ends_in_a_worker(parent: int) -> int:
    if os.getpid() != parent:
        os._exit(1)
    return 7


@pytest.mark.parametrize("workers", [1, 2, None])
def test_each_task_has_its_result(workers: int | None) -> None:
    assert dict(in_workers(square, [3, 1, 4, 1, 5], workers)) == {0: 9, 1: 1, 2: 16, 3: 1, 4: 25}
    assert not list(in_workers(square, [], workers))


def test_one_task_or_one_worker_stays_in_this_process() -> None:
    assert dict(in_workers(process, [0], 2)) == {0: os.getpid()}
    assert set(dict(in_workers(process, [0, 1], 1)).values()) == {os.getpid()}


def test_a_worker_that_ends_leaves_its_tasks_to_this_process() -> None:
    assert dict(in_workers(ends_in_a_worker, [os.getpid()] * 3, 2)) == {0: 7, 1: 7, 2: 7}


def test_without_processes_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError("no room for another process")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", no_room)
    assert dict(in_workers(process, [0, 1], 2)) == {0: os.getpid(), 1: os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_through(workers: int) -> None:
    with pytest.raises(ValueError, match="-2 is negative"):
        list(in_workers(square, [1, -2, 3], workers))


def tells_and_waits(said: Connection) -> None:
    said.send(os.getpid())
    time.sleep(60.0)


def has_two_workers(said: Connection) -> None:
    list(in_workers(tells_and_waits, [said, said], 2))


def runs(process: int) -> bool:
    """Whether a process is there and is not only waiting to be looked after by its parent."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_end_with_a_process_that_is_killed() -> None:
    forked = multiprocessing.get_context("fork")
    heard, said = forked.Pipe(duplex=False)
    parent = forked.Process(target=has_two_workers, args=(said,))
    parent.start()
    workers = [heard.recv(), heard.recv()]
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 30
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, workers))
