"""Files that appear in a directory together, or not at all."""

import contextlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.replace import UNFINISHED, check_writable, replacing


def write(directory: Path) -> None:
    with replacing(directory) as staging:
        (staging / "a").write_text("new")
        assert not (directory / "a").exists() or (directory / "a").read_text() == "old"


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "x" / "y")
    assert (tmp_path / "x" / "y" / "a").read_text() == "new"
    assert os.listdir(tmp_path / "x") == ["y"]


def test_files_of_the_same_name_are_replaced_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("other")
    write(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "other"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError, SystemExit])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with contextlib.suppress(error), replacing(tmp_path / "x" / "y") as staging:
        (staging / "a").write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


def test_what_the_system_refuses_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write to .*: no space left"), replacing(tmp_path / "x"):
        raise OSError(28, "No space left on device")


def test_writability_is_checked_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "x" / "y")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    for refused in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(UserError, match="cannot write to"):
            check_writable(refused)


def writes_for_ever(target: Path) -> None:
    with replacing(target) as staging:
        (staging / "a").write_text("half")
        time.sleep(60.0)


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(
    is_there: bool, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    if is_there:
        target.mkdir()
    beside = target if is_there else tmp_path
    process = multiprocessing.get_context("fork").Process(target=writes_for_ever, args=(target,))
    process.start()
    while not list(beside.glob(f"{UNFINISHED}*/a")):
        time.sleep(0.01)
    check_writable(target)
    write(target)
    (unfinished,) = beside.glob(f"{UNFINISHED}*")
    assert (unfinished / "a").read_text() == "half"
    process.kill()
    process.join()
    check_writable(target)
    assert not unfinished.exists()
    assert (target / "a").read_text() == "new"
