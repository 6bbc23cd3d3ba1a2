"""tersor compress with a contract: what contradicts itself or cannot be had is said in one sentence."""

import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tersor.cli import main
from tests.models import mlp

MACHINES = Path(__file__).parents[2] / "targets" / "machines"
EDGE = str(MACHINES / "edge.toml")
CPU = """
name = "host"
clock = "2 GHz"
[[compute]]
precision = "fp32"
macs_per_cycle = 16
[[memories]]
name = "dram"
size = "1 GiB"
bandwidth = "10 GB/s"
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Compress a model that may not be there: mistakes are found before it is looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu.toml").write_text(CPU)
    (tmp_path / "no-energies.toml").write_text(_without_energies())

    def call(*options: str) -> tuple[int, str, str]:
        command = ["tersor", "compress", "mlp.onnx", "--data", "data.npz", "--out", "out", *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capfd.readouterr()
        return int(exited.value.code or 0), captured.out, captured.err

    return call


def _without_energies() -> str:
    lines = Path(EDGE).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("energy", "write_energy", "read_energy")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--max-latency 3", "--max-latency: write a number with its unit, as in '90 s', got '3'"),
        ("--max-latency 3mJ", "--max-latency: unknown unit 'mJ' in '3mJ'"),
        ("--max-energy 3ms", "--max-energy: unknown unit 'ms' in '3ms'"),
        ("--max-size 3ms", "--max-size: unknown unit 'ms' in '3ms'"),
        ("--budget 5", "--budget: write a number with its unit"),
        ("--budget 5MB", "--budget: unknown unit 'MB' in '5MB'"),
        ("--max-latency -3ms", "--max-latency: write a number with its unit, as in '90 s', got '-3ms'"),
        ("--max-latency nanms", "--max-latency: write a number with its unit"),
        ("--max-latency infs", "--max-latency: write a number with its unit"),
        ("--max-latency 1e999s", "--max-latency: '1e999s' is too large"),
        ("--max-latency 0ms", "a bound on the latency is a number above 0, got 0"),
        ("--max-size 0B", "a bound on the size is a number above 0, got 0"),
        ("--max-size 1.5B", "a size is a whole number of bytes"),
        ("--max-drop -0.5", "a bound on the drop is a number of points, 0 or more, got -0.5"),
        ("--max-drop nan", "a bound on the drop is a number of points, 0 or more, got nan"),
        ("--max-drop inf", "a bound on the drop is a number of points, 0 or more, got inf"),
        ("--max-drop much", "--max-drop"),
        ("--budget 0s", "a budget is a number of seconds above 0, got 0"),
        ("--minimize speed", "--minimize"),
        ("--minimize drop", "bound latency, energy or size"),
        ("--minimize drop --max-drop 1", "bound latency, energy or size"),
        ("--max-drop 1 --scheme int8", "--scheme says what becomes of layers, a contract searches for that"),
        ("--max-drop 1 --preset int8", "--preset says what becomes of layers"),
        ("--max-drop 1 --scheme auto --min-snr 30", "--scheme says what becomes of layers"),
        ("--max-energy 2mJ", "of this CPU no energies are known"),
        ("--minimize edp", "of this CPU no energies are known"),
        ("--max-drop 1 --hardware missing.toml", "cannot read missing.toml"),
        ("--max-drop 1 --hardware cpu.toml", "cpu.toml describes no accelerator, it has no [datapath]"),
        (f"--max-drop 1 --hardware {EDGE} --isa avx2", "leave out --isa and --cores"),
        (f"--max-drop 1 --hardware {EDGE} --cores 1", "leave out --isa and --cores"),
        ("--minimize edp --hardware no-energies.toml", "edge gives no energies"),
        ("--max-drop 1 --hardware no-energies.toml", "edge gives no energies"),
        ("--max-energy 1mJ --minimize latency --hardware no-energies.toml", "edge gives no energies"),
        ("--strategy random", "--strategy is of a search: give a contract too"),
        ("--seed 1 --scheme int8", "--seed is of a search: give a contract too"),
        ("--effort 100", "--effort is of a search: give a contract too"),
    ],
)
def test_a_bad_contract_is_answered_in_one_sentence_before_anything_is_done(
    options: str, said: str, compress: Call, tmp_path: Path
) -> None:
    code, out, err = compress(*options.split(" "))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def inputs(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "mlp.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(12, 64)).astype("f4"))


SEARCH = ("--hardware", EDGE, "--effort", "100", "--calibration-samples", "8")


@pytest.mark.slow
@pytest.mark.usefixtures("inputs")
def test_the_closest_plan_is_written_where_a_bound_cannot_be_kept(compress: Call, tmp_path: Path) -> None:
    code, out, err = compress(*SEARCH, "--max-latency", "1ns", "--max-drop", "50")
    assert (code, err) == (1, "")
    words = " ".join(out.split())
    assert "no plan was found that keeps the latency at or below 1.00 ns: this is the closest" in words
    assert re.search(
        r"no plan keeps the latency at or below 1 ns: the least possible is [0-9.]+ [nµm]?s", words
    )
    assert {"plan.json", "model.so", "front-01.json"} <= {file.name for file in (tmp_path / "out").iterdir()}
    code, out, err = compress(*SEARCH, "--max-drop", "50", "--budget", "10ms")
    assert (code, out) == (2, "")
    assert "a budget of 10 ms is too short to compile a plan: give" in err


@pytest.mark.usefixtures("inputs")
def test_a_journal_that_is_none_is_said_and_left_as_it_is(compress: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    journal = tmp_path / "out" / "search.sqlite"
    journal.write_bytes(b"no database at all" * 100)
    code, out, err = compress(*SEARCH, "--max-drop", "50")
    assert (code, out) == (2, "")
    assert "search.sqlite is no journal" in err
    assert len(err.splitlines()) == 1
    assert journal.read_bytes() == b"no database at all" * 100


@pytest.mark.usefixtures("inputs")
def test_a_full_disk_ends_a_search_in_one_sentence_and_loses_nothing(
    compress: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*arguments: object, **options: object) -> sqlite3.Connection:
        file = opened(*arguments, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]
        file.execute("PRAGMA max_page_count = 8")
        return file

    opened = sqlite3.connect
    monkeypatch.setattr("tersor.scheduler.journal.sqlite3.connect", connect)
    code, out, err = compress(*SEARCH, "--max-drop", "50")
    assert (code, out) == (2, "")
    assert "database or disk is full; make room" in err
    assert len(err.splitlines()) == 1
    with opened(tmp_path / "out" / "search.sqlite") as file:
        assert file.execute("SELECT COUNT(*) FROM results WHERE kind = 'loss'").fetchone()[0] > 0


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("where", ["file", "/dev/null/out"])
def test_where_nothing_can_be_written_is_said_before_the_search(
    where: str, compress: Call, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = compress(*SEARCH, "--max-drop", "50", "--out", where)
    assert (code, out) == (2, "")
    assert f"cannot write to {where}" in err
