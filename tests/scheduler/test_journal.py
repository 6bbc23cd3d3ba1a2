"""The journal keeps every result that was found, through kills, and refuses files that are none."""

import multiprocessing
import re
import resource
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

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


def test_many_keys_are_asked_for_at_a_time() -> None:
    journal = Journal()
    for number in range(1203):
        journal.write("mappings", str(number), number)
    found = journal.all_known("mappings", [str(number) for number in range(1300)])
    assert found == {str(number): number for number in range(1203)}
    assert journal.count("mappings") == 1203


def test_subjects_of_one_file_are_closed_together(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.of("one").write("loss", "a", 1)
        assert journal.known("loss", "a") is None
    assert Journal(path, "one").known("loss", "a") == 1
    assert [file.name for file in tmp_path.iterdir() if "-" not in file.name] == ["journal.sqlite"]


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 8192,
        b"no database at all, but long enough for a header" * 4,
        b"SQLite format 3\0" + b"\xff" * 4096,
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"journal.sqlite is no journal \(.*\): remove it, or give another"):
        Journal(path, "of this")
    assert path.read_bytes() == content


def test_so_are_a_table_of_something_else_and_a_value_that_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE results (name TEXT)")
    with pytest.raises(UserError, match=r"other\.sqlite is no journal \(.*\): remove it"):
        Journal(path)
    journal = Journal(tmp_path / "torn.sqlite")
    with sqlite3.connect(tmp_path / "torn.sqlite") as database:
        database.execute("INSERT INTO results VALUES ('', 'loss', 'a', '[1, ', 0)")
    with pytest.raises(UserError, match=r"torn\.sqlite is no journal"):
        journal.known("loss", "a")


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.write("loss", "a", 1)
        journal._file.execute("PRAGMA max_page_count = 4")
        with pytest.raises(UserError, match="full; make room, let it be written, or give another place"):
            journal.write("loss", "b", "x" * 100_000)
    assert Journal(path).known("loss", "a") == 1


def test_a_journal_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE results (name TEXT)")
        database.execute("PRAGMA user_version = 7")
    content = path.read_bytes()
    with pytest.raises(UserError, match=r"journal\.sqlite is the journal of another version: remove it"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_journal_that_can_only_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, connect = tmp_path / "journal.sqlite", sqlite3.connect
    with Journal(path) as journal:
        journal.write("loss", "a", 1)

    def only_read(file: Path, **options: Any) -> sqlite3.Connection:
        return connect(f"file:{file}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", only_read)
    with pytest.raises(UserError, match=r"cannot use .*: attempt to write a readonly database; .*let it be"):
        Journal(path).write("loss", "b", 2)
    monkeypatch.undo()
    assert Journal(path).all_known("loss", ["a", "b"]) == {"a": 1}


def _fills_its_disk(path: Path, said: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))
    journal = Journal(path)
    for number in count():
        try:
            journal.write("loss", str(number), "x" * 1000)
        except UserError as error:
            said.send((number, str(error)))
            return


def test_where_the_system_ends_a_file_all_that_was_taken_down_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    forked = multiprocessing.get_context("fork")
    heard, said = forked.Pipe(duplex=False)
    process = forked.Process(target=_fills_its_disk, args=(path, said))
    process.start()
    written, sentence = heard.recv()
    process.join()
    assert process.exitcode == 0
    assert written > 5
    assert re.fullmatch(r"cannot use .*journal\.sqlite: .*; make room, .*", sentence)
    assert Journal(path).count("loss") == written


def _put_many(path: Path, first: int) -> None:
    journal = Journal(path)
    for number in range(first, first + 50):
        journal.write("loss", str(number), number)


def test_two_processes_write_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        for each in [pool.submit(_put_many, path, 0), pool.submit(_put_many, path, 50)]:
            each.result()
    assert Journal(path).count("loss") == 100


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
