"""The journal survives a kill, and refuses what it did not write."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.targets.cpu.host.detect import detect
from tersor.tuning.journal import RECORDS, REFERENCE, WORKLOADS, Entry, Journal
from tersor.tuning.measurement import Candidate, Timing
from tests.tuning.workloads import FLOAT, HOST, workload

A, B = workload(), workload(FLOAT)
FAST = Candidate(A, replace(A.default, pixels=2, vectors=1))
WRONG = Candidate(B, replace(B.default, pixels=1, vectors=1))


def opened(path: Path, cpu: str = "a CPU") -> Journal:
    return Journal(path, HOST, cpu)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    journal = opened(tmp_path)
    journal.add(FAST, Timing(1.25e-5, 2e-5))
    journal.add(WRONG, "its results differ")
    journal.add(FAST, Timing(1.5e-5, 2e-5))
    return tmp_path


def test_what_was_measured_is_found_again(written: Path) -> None:
    journal = opened(written)
    entry = journal.find(FAST)
    assert entry is not None
    assert set(entry.timings) == {Timing(1.25e-5, 2e-5), Timing(1.5e-5, 2e-5)}
    assert entry.ratio == 0.75  # the worst
    assert journal.find(WRONG) == Entry(wrong=True)
    assert journal.find(Candidate(A, replace(A.default, pixels=3, vectors=1))) is None


def test_a_kill_in_the_middle_of_a_line_loses_that_line(written: Path) -> None:
    whole = (written / RECORDS).read_bytes()
    (written / RECORDS).write_bytes(whole[:-20])
    journal = opened(written)
    assert journal.find(FAST) == Entry((Timing(1.25e-5, 2e-5),))
    journal.add(FAST, Timing(1.5e-5, 2e-5))
    assert (written / RECORDS).read_bytes() == whole


def test_measurements_of_another_cpu_are_refused(written: Path) -> None:
    with pytest.raises(UserError, match=r"are of another CPU \(a CPU, .*; this is b CPU, .*give another"):
        opened(written, "b CPU")
    with pytest.raises(UserError, match="of another CPU"):
        Journal(written, detect(cores=3), "a CPU")


@pytest.mark.parametrize("name", [WORKLOADS, RECORDS])
@pytest.mark.parametrize("text", ["nonsense\n", "[0]\n", '{"a": 1}\n', "\0\0\n"])
def test_what_is_no_journal_is_refused(written: Path, name: str, text: str) -> None:
    (written / name).write_text(text)
    with pytest.raises(UserError, match=r"holds no measurements of `tersor tune`: remove"):
        opened(written)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    (tmp_path / RECORDS).unlink()
    os.symlink("/dev/full", tmp_path / RECORDS)
    with pytest.raises(UserError, match="is the disk full"):
        journal.add(FAST, Timing(1.0, 2.0))


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        opened(tmp_path / "file" / "below")


def test_times_beside_something_else_are_refused(written: Path) -> None:
    with pytest.raises(UserError, match=r"holds no measurements of a CPU's costs: remove"):
        Journal(written, HOST, "a CPU", REFERENCE)
