"""A search that is killed at any time goes on where it was, and ends with the same bytes."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.models import mlp

ROOT = Path(__file__).parents[2]
EDGE = ROOT / "targets" / "machines" / "edge.toml"
NAMES = ("plan.json", "model.so", "statistics.npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kills")
    onnx.save(mlp(), path / "mlp.onnx")
    np.savez(path / "data.npz", x=np.random.default_rng(0).normal(size=(24, 64)).astype("f4"))
    return path


def begin(folder: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tersor", "compress", "mlp.onnx", "--data", "data.npz", "--out", out]
    options = ["--hardware", str(EDGE), "--max-drop", "40", "--effort", "200", "--calibration-samples", "16"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *options], cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # with the workers that look for mappings
    process.wait()


def finished(folder: Path, out: str) -> dict[str, bytes]:
    """What a search wrote that is the same for the same search."""
    names = [*NAMES, *sorted(file.name for file in (folder / out).glob("front-*.json"))]
    return {name: (folder / out / name).read_bytes() for name in names}


def results(folder: Path, out: str) -> Counter[str]:
    """How many results of each kind the journal has."""
    if not (folder / out / "search.sqlite").exists():
        return Counter()
    with sqlite3.connect(folder / out / "search.sqlite") as file:
        tables = file.execute("SELECT name FROM sqlite_master").fetchall()
        rows = file.execute("SELECT kind, COUNT(*) FROM results GROUP BY kind").fetchall() if tables else []
    return Counter(dict(rows))


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[dict[str, bytes], float]:
    """The files of a search that was not killed, and the seconds that it took."""
    start = time.monotonic()
    assert begin(folder, "whole").wait() == 0
    return finished(folder, "whole"), time.monotonic() - start


def survives(folder: Path, whole: tuple[dict[str, bytes], float], kills: int, seed: int) -> None:
    """Kill a search at random times, and let it end: the same files, and no result that is lost."""
    expected, seconds = whole
    out, moments = f"killed-{kills}-{seed}", random.Random(seed)
    before: Counter[str] = Counter()
    for _ in range(kills):
        process = begin(folder, out)
        deadline = time.monotonic() + moments.uniform(0.1, 1.0) * seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None:
            kill(process)
        after = results(folder, out)
        assert after >= before, "a result that was there is lost"
        before = after
    assert begin(folder, out).wait() == 0
    assert finished(folder, out) == expected
    lasting = ("loss", "trial", "mappings")
    one, other = results(folder, "whole"), results(folder, out)
    assert [one[kind] for kind in lasting] == [other[kind] for kind in lasting]


@pytest.mark.slow
def test_two_kills_change_nothing(folder: Path, whole: tuple[dict[str, bytes], float]) -> None:
    survives(folder, whole, kills=2, seed=0)


@pytest.mark.slow
def test_twenty_kills_change_nothing(folder: Path, whole: tuple[dict[str, bytes], float]) -> None:
    survives(folder, whole, kills=20, seed=1)


@pytest.mark.slow
def test_the_same_search_elsewhere_has_the_same_bytes(
    folder: Path, whole: tuple[dict[str, bytes], float]
) -> None:
    """With another seed of hashes, and nothing known before."""
    assert begin(folder, "another").wait() == 0
    assert finished(folder, "another") == whole[0]
