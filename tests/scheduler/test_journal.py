"""The journal keeps every result that was found, through kills, and refuses files that are none."""

import multiprocessing
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.scheduler.journal import Journal


def test_a_result_is_found_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def find() -> dict[str, float]:
        calls.append(1)
        return {"drop": 0.5}

    for _ in range(2):
        journal = Journal(tmp_path / "journal.sqlite", "of this")
        assert journal.remember("trial", "a", find) == {"drop": 0.5}
        journal.close()
    assert len(calls) == 1


def test_other_subjects_and_kinds_have_results_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    one, other = Journal(path, "one"), Journal(path, "other")
    one.write("loss", "a", 1)
    assert one.known("loss", "a") == 1
    assert one.known("trial", "a") is None
    assert other.known("loss", "a") is None


def test_it_knows_how_long_a_result_took(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", "of this")
    clock = iter([10.0, 12.5])
    journal.remember("loss", "a", lambda: 1, lambda: next(clock))
    assert journal.seconds("loss", "a") == 2.5
    assert journal.seconds("loss", "b") == 0.0


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", "of this")
    journal.write("clock", "run", 1.0)
    journal.write("clock", "run", 3.0)
    assert journal.known("clock", "run") == 3.0


def test_without_a_file_it_lasts_as_long_as_the_process() -> None:
    journal = Journal(None, "of this")
    journal.write("loss", "a", [1.5, None, "text"])
    assert journal.known("loss", "a") == [1.5, None, "text"]


def test_numbers_come_back_to_the_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", "of this")
    value = 0.1 + 0.2
    assert journal.remember("loss", "a", lambda: value) == value


@pytest.mark.parametrize("content", [b"\x00" * 8192, b"no database at all, but long enough for a header" * 4])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no journal"):
        Journal(path, "of this")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use"):
        Journal(tmp_path / "file" / "journal.sqlite", "of this")


def _write_for_ever(path: Path, said: Connection) -> None:
    journal = Journal(path, "of this")
    for number in count():
        journal.write("loss", str(number), number)
        said.send(number)


def test_what_was_taken_down_before_a_kill_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    forked = multiprocessing.get_context("fork")  # a fresh process would import everything first
    heard, said = forked.Pipe(duplex=False)
    process = forked.Process(target=_write_for_ever, args=(path, said))
    process.start()
    last = max(heard.recv() for _ in range(50))
    process.kill()
    process.join()
    journal = Journal(path, "of this")
    assert [journal.known("loss", str(number)) for number in range(last + 1)] == list(range(last + 1))
