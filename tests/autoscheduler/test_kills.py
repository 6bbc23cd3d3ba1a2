"""A search that is killed in any phase goes on where it was, and ends with the same bytes."""

import contextlib
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing import get_context, set_forkserver_preload
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

from tersor.replace import UNFINISHED
from tersor.scheduler.contract import Quantity
from tests.autoscheduler.watched_search import search
from tests.models import mlp

ROOT = Path(__file__).parents[2]
EDGE = str(ROOT / "targets" / "machines" / "edge.toml")
NAMES = ("plan.json", "model.so", "statistics.npz")
TIMES = "settled"  # what the journal calls times of kernels: another search would measure other ones

pytestmark = pytest.mark.slow
set_forkserver_preload([search.__module__])  # a fresh process would import everything first


class Phase(NamedTuple):
    """The n-th time that something began."""

    name: str
    time: int


class Moment(NamedTuple):
    """So many seconds after a phase began."""

    phase: Phase
    seconds: float


@dataclass(frozen=True)
class Run:
    """How a search in a process of its own ended: its phases with their beginnings, and what it measured."""

    began: dict[Phase, float]
    measured: int
    killed: bool

    def seconds(self, phase: Phase) -> float:
        ends = [*self.began.values()]
        return ends[ends.index(self.began[phase]) + 1] - self.began[phase]


@dataclass(frozen=True)
class Searches:
    """Searches of one model on one machine, each in a folder of its own; `whole` came to its end."""

    folder: Path
    machine: str
    minimize: Quantity

    def run(self, out: str, end: Moment | None = None, method: str = "forkserver") -> Run:
        """Search, and kill it at a moment, if it has not ended by then: alone, whatever it has begun."""
        context: Any = get_context(method)
        heard, said = context.Pipe(duplex=False)
        arguments = said, self.folder, out, self.machine, self.minimize
        process = context.Process(target=search, args=arguments)
        process.start()
        said.close()
        began: dict[Phase, float] = {}
        times, measured, ended = Counter[str](), 0, False
        for line in _lines(heard):
            measured += line == "measured"
            if line == "measured":
                continue
            times[line] += 1
            phase = Phase(line, times[line])
            began[phase] = time.monotonic()
            if end is not None and phase == end.phase and not ended:
                time.sleep(end.seconds)
                process.kill()
                ended = True
        process.join()
        assert process.exitcode in ((0, -signal.SIGKILL) if ended else (0,))
        return Run(began, measured, process.exitcode != 0)

    @cached_property
    def whole(self) -> Run:
        """A search that nothing happens to."""
        return self.run("whole")

    def files(self, out: str) -> dict[str, bytes]:
        """What a search wrote that is the same for the same search."""
        written = self.folder / out
        names = [*NAMES, *sorted(file.name for file in written.glob("front-*.json"))]
        return {name: (written / name).read_bytes() for name in names}

    def results(self, out: str) -> Counter[str]:
        """How many results of each kind the journal has."""
        rows = self._rows(out, "SELECT kind, COUNT(*) FROM results GROUP BY kind")
        return Counter({str(kind): int(str(count)) for kind, count in rows})

    def take_times(self, source: str, out: str) -> None:
        """Let the journal of a search that is yet to begin know what another one measured by a clock."""
        (self.folder / out).mkdir()
        shutil.copy(self.folder / source / "search.sqlite", self.folder / out)
        self._rows(out, f"DELETE FROM results WHERE kind != '{TIMES}'")

    def _rows(self, out: str, query: str) -> list[tuple[object, ...]]:
        path = self.folder / out / "search.sqlite"
        if not path.exists():
            return []
        with sqlite3.connect(path) as file:
            if not file.execute("SELECT name FROM sqlite_master").fetchall():
                return []
            return file.execute(query).fetchall()


def _lines(heard: Connection) -> Iterator[str]:
    """What a process and its workers say until they are no more."""
    with contextlib.suppress(EOFError):
        while True:
            yield heard.recv()


Begin = Callable[[str, Quantity], Searches]


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Searches on a machine for the least of something."""

    @cache
    def begin(machine: str, minimize: Quantity) -> Searches:
        folder = tmp_path_factory.mktemp("kills")
        onnx.save(mlp(), folder / "model.onnx")
        samples = np.random.default_rng(0).normal(size=(24, 64)).astype("f4")
        np.savez(folder / "data.npz", x=samples)
        return Searches(folder, machine, minimize)

    return begin


def moments(whole: Run, count: int, seed: int) -> list[Moment]:
    """Moments at random in all phases, in their order, each phase at least once if there are as many."""
    chance = random.Random(seed)
    phases = [phase for phase in whole.began if phase.name != "done"]
    first = chance.sample(phases, min(count, len(phases)))
    chosen = [*first, *chance.choices(phases, k=count - len(first))]
    return [
        Moment(phase, chance.uniform(0.0, whole.seconds(phase))) for phase in sorted(chosen, key=phases.index)
    ]


def survives(searches: Searches, out: str, kills: list[Moment]) -> None:
    """Kill a search at these moments, and let it end: no result is lost but the one that was worked on."""
    for moment in kills:
        before = searches.results(out)
        run = searches.run(out, moment)
        seconds = moment.seconds
        while not run.killed:  # what it was to be killed in had been done before, or was by then
            last = [phase for phase in run.began if phase.name != "done"][-1]
            seconds = seconds % run.seconds(last) / 2
            run = searches.run(out, Moment(last, seconds))
        after = searches.results(out)
        assert after >= before, "a result that was there is lost"
        evaluations = [each["loss"] + each["trial"] for each in (before, after)]
        assert evaluations[1] >= evaluations[0] + run.measured - 1, "more than one evaluation is lost"
    searches.run(out)
    assert not list((searches.folder / out).glob(f"{UNFINISHED}*"))
    assert not list(searches.folder.glob(f"{UNFINISHED}*"))


def test_twenty_kills_of_a_search_on_an_accelerator_change_nothing(on: Begin) -> None:
    searches = on(EDGE, "edp")
    kills = moments(searches.whole, count=20, seed=1)
    survives(searches, "killed", kills)
    assert searches.files("killed") == searches.files("whole")
    lasting = ("loss", "trial", "mappings")
    one, other = searches.results("whole"), searches.results("killed")
    assert [one[kind] for kind in lasting] == [other[kind] for kind in lasting]


def test_another_search_on_an_accelerator_has_the_same_bytes(on: Begin) -> None:
    """In a process that is started anew, with another seed of hashes, and nothing known before."""
    searches = on(EDGE, "edp")
    assert searches.whole.began.keys() == searches.run("another", method="spawn").began.keys()
    assert searches.files("another") == searches.files("whole")


def test_twenty_kills_of_a_search_on_this_cpu_change_nothing_but_times(on: Begin) -> None:
    """With the times of kernels that the first search found, where the race is not what decides."""
    searches = on("cpu", "size")
    kills = moments(searches.whole, count=20, seed=2)
    searches.take_times("whole", "killed")
    survives(searches, "killed", kills)
    assert searches.files("killed") == searches.files("whole")


def test_a_search_on_this_cpu_that_is_killed_while_it_measures_goes_on_with_what_it_measured(
    on: Begin,
) -> None:
    searches = on("cpu", "latency")
    phases = {phase.name: phase for phase in searches.whole.began}
    measuring, racing = phases["finding mappings"], phases["racing"]
    survives(searches, "killed", [Moment(measuring, 0.7), Moment(measuring, 1.4), Moment(racing, 0.1)])
    shutil.copytree(searches.folder / "killed", searches.folder / "again")
    searches.run("again")
    assert searches.files("again") == searches.files("killed")
