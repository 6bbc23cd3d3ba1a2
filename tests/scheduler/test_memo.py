import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.scheduler.memo import Memo


def test_what_is_put_is_there_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    Memo("costs", path).put("a", [1.5, {"x": None}])
    again = Memo("costs", path)
    assert again.get(["a", "b"]) == {"a": [1.5, {"x": None}]}
    again.put("a", 2)
    assert again.get(["a"]) == {"a": 2}
    assert len(again) == 1
    assert Memo("others", path).get(["a"]) == {}


def test_without_a_file_it_is_kept_as_long_as_the_object() -> None:
    memo = Memo("costs")
    memo.put("a", 1)
    assert memo.get(["a"]) == {"a": 1}
    assert Memo("costs").get(["a"]) == {}


def test_more_keys_than_fit_a_query() -> None:
    memo = Memo("costs")
    for number in range(1203):
        memo.put(str(number), number)
    assert len(memo.get([str(number) for number in range(1300)])) == 1203


def put_many(path: Path, first: int) -> None:
    memo = Memo("costs", path)
    for number in range(first, first + 50):
        memo.put(str(number), number)


def test_two_processes_write_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for each in [pool.submit(put_many, path, 0), pool.submit(put_many, path, 50)]:
            each.result()
    assert len(Memo("costs", path)) == 100


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_said_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"costs.db cannot be used \(.*\): remove it or give another"):
        Memo("costs", path)


def test_so_is_a_table_of_something_else_and_a_value_that_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE costs (name TEXT)")
    with pytest.raises(UserError, match="cannot be used"):
        Memo("costs", path)
    other = tmp_path / "other.db"
    Memo("costs", other)
    with sqlite3.connect(other) as database:
        database.execute("INSERT INTO costs VALUES ('a', '[1, ')")
    with pytest.raises(UserError, match="cannot be used"):
        Memo("costs", other).get(["a"])


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="File exists"):
        Memo("costs", tmp_path / "file" / "costs.sqlite")
