"""Budget: the time that a search may take, what it went to, and how much of it the end will need."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tersor.autoscheduler.report import Spent


class TimeUp(Exception):
    """Raised to end what there is no more time for."""


def until(
    left: Callable[[], float], show: Callable[[int, int], None], longest: float = 0.0
) -> Callable[[int, int], None]:
    """Make a `show` that raises `TimeUp` when another step would take more than the time that is left.

    A step is taken to be as long as the longest so far, the first ones `longest`; and one on each core may
    just have begun.
    """
    before = left()

    def shown(done: int, of: int) -> None:
        nonlocal before, longest
        now = left()
        before, longest = now, max(longest, before - now)
        if done < of and now < 2 * longest:
            raise TimeUp
        show(done, of)

    return shown


class Budget:
    """A number of seconds, None for as many as it takes; `started` is when it began, by the clock `now`.

    `work` is the processor time of this process: what passes beside it is for others on this machine.
    """

    def __init__(
        self,
        seconds: float | None,
        started: float | None = None,
        now: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.process_time,
    ) -> None:
        self._seconds, self._now, self._work = seconds, now, work
        self.earlier = 0.0  # s
        self._start = now() if started is None else started
        self._phases: dict[str, float] = {} if started is None else {"importing": now() - started}
        self._worked: dict[str, float] = {}

    def go_on(self, spent: float) -> None:
        """Take so many seconds for spent by an earlier run that this one goes on with."""
        self.earlier = spent

    @property
    def spent(self) -> float:
        """Seconds so far, those of earlier runs included."""
        return self.earlier + self._now() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left; infinite without a bound."""
        return float("inf") if self._seconds is None else self._seconds - self.spent

    def has(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return self.left >= seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done inside as this part of the search."""
        start, work = self._now(), self._work()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + self._now() - start
            self._worked[name] = self._worked.get(name, 0.0) + self._work() - work

    def phases(self) -> tuple[Spent, ...]:
        """What the time of this run went to, in the order of their beginnings."""
        return tuple(Spent(name, seconds) for name, seconds in self._phases.items())

    def of(self, phase: str) -> float:
        """Seconds that a phase took."""
        return self._phases.get(phase, 0.0)

    def slow(self, phase: str) -> float:
        """How many times as long as on an idle core a phase took that ran on one; at least 1."""
        worked = self._worked.get(phase, 0.0)
        return max(1.0, self.of(phase) / worked) if worked else 1.0
