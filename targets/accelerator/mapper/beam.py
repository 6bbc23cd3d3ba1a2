"""Beam: a search through the best mappings of a space that has too many for all of them.

It alternates between sizes and frames. Frames that keep all they may and some at random are tried with sizes
drawn at random, and the best of them are improved: each round splits one dimension of the best mappings in
other ways, and a few dimensions at once at random, and keeps the best for time, energy and their product.
Then neighbours of the best frames are tried with the sizes of the front and some drawn around them, those
that keep fewer tiles first; then frames that are further away. What is near to mappings that are known is
searched without the first of it. The draws are those of a fixed seed.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, product

import numpy as np
from numpy.typing import NDArray

from tersor.targets.accelerator.mapper.choices import Digits
from tersor.targets.accelerator.mapper.frame import Level, count_of
from tersor.targets.accelerator.mapper.front import Frame, Front
from tersor.targets.accelerator.mapper.search import FEW, Search
from tersor.targets.accelerator.nest import Sizes
from tersor.targets.accelerator.tiles import Array

# Beginning with a frame takes as long as FEW mappings do, so many of its sizes are tried at once.
DRAWN = 2048  # sizes that are drawn for one of the frames to begin with
FRAME_TRIES = 1536  # sizes around those of the front that a frame is tried with
EVEN = 16  # frames that keep all they may among those that are tried first
STARTS = 24  # frames that sizes are improved for before others are tried
NEAR = 64  # ways to split a dimension that a round tries in place of one of the best
AVOIDED = 8  # power of the iterations too many by which a way is drawn less often


class Beam:
    """The search where there are too many mappings for all of them; ends after about `effort` evaluations."""

    def __init__(self, search: Search, effort: int) -> None:
        self.search = search
        self.space = search.space
        self.choices = search.choices
        self.effort = effort
        self.most = max(effort // 64, 128)  # sizes drawn at once, few where the effort is small
        self.random = np.random.default_rng(0)
        self.tried: set[Frame] = set()
        self.given = 0  # frames among them that it began with, which count for nothing
        self.steps: dict[tuple[int, Level, bool], list[Level]] = {}

    def run(self, near: Iterable[tuple[Frame, Digits]] = ()) -> None:
        """Fill the front of the search; it begins with what is `near`, with anything if none of that fits."""
        for frame, digits in near:
            self.tried.add(frame)
            self.search.score(frame, digits)
        self.given = len(self.tried)
        if not self.search.front.points:
            self._begin()
        for frame in self._best_frames():
            self._descend(frame, self._known(), rounds=3, width=2, until=3 / 4)
        while self.search.front.points and not self._spent():
            close = self._step(self._neighbours(any_order=False))
            if not close and not self._step(self._neighbours(any_order=True) + self._strangers()):
                break

    def _begin(self) -> None:
        for frame in self._starts():
            self._descend(frame, self._drawn(min(DRAWN, self.most)), rounds=2, width=1)
            if self._spent(1 / 2):
                break

    def _spent(self, part: float = 1.0) -> bool:
        """Whether a part of the effort is spent, the time for the frames counted as evaluations."""
        return self.search.evaluated + FEW * (len(self.tried) - self.given) >= part * self.effort

    def _starts(self) -> list[Frame]:
        """Frames that are good for time, energy or both with sizes drawn at random, the best first."""
        even = list(product(*self.space.even))
        frames = [even[place] for place in self.random.permutation(len(even))[:EVEN].tolist()]
        drawn = self._drawn(min(DRAWN, self.most))
        least: dict[Frame, tuple[float, float, float]] = {}
        for frame in chain(frames, self._any_frames()):
            if frame in self.tried:
                continue
            cycles, energy = self.search.score(frame, drawn)
            self.tried.add(frame)
            least[frame] = (cycles.min(), energy.min(), (cycles * energy).min())
            if self._spent(1 / 4):
                break
        ranked = [sorted(least, key=lambda frame: least[frame][goal]) for goal in range(3)]
        return list(dict.fromkeys(frame for best in zip(*ranked, strict=True) for frame in best))[:STARTS]

    def _any_frames(self) -> Iterator[Frame]:
        """Frames at random, about half of whose memories keep all that they may."""
        for _ in range(count_of(self.space.levels)):
            pairs = zip(self.space.even, self.space.levels, strict=True)
            levels = [pair[self.random.integers(2)] for pair in pairs]
            yield tuple(some[self.random.integers(len(some))] for some in levels)

    def _best_frames(self) -> list[Frame]:
        front = self.search.front
        if not front.points:
            return []
        return list({point.frame: None for point in (front.fastest, front.least_energy, front.least_edp)})

    def _step(self, frames: list[Frame]) -> bool:
        """Try frames that were not tried, and go on with what is better; false if there are none."""
        front = self.search.front
        fresh = [frame for frame in dict.fromkeys(frames) if frame not in self.tried]
        some = self._around(self._known())
        # What keeps less is tried first: a tile that is kept in vain costs accesses, and takes room.
        shuffled = [fresh[place] for place in self.random.permutation(len(fresh)).tolist()]
        for frame in sorted(shuffled, key=_kept):
            if self._spent():
                break
            before = _marks(front)
            self.tried.add(frame)
            self.search.score(frame, some)
            if _marks(front) != before:
                self._descend(frame, self._known(), rounds=2, width=1)
                some = self._around(self._known())
        return bool(fresh)

    def _neighbours(self, any_order: bool) -> list[Frame]:
        return [
            (*frame[:level], other, *frame[level + 1 :])
            for frame in self._best_frames()
            for level, here in enumerate(frame)
            for other in self._next_to(level, here, any_order)
        ]

    def _strangers(self) -> list[Frame]:
        """Frames two steps away from some of the front, drawn at random."""
        frames = list({point.frame: None for point in self.search.front.points})
        found: list[Frame] = []
        for _ in range(64):
            frame = frames[self.random.integers(len(frames))]
            for level in self.random.integers(len(frame), size=2).tolist():
                if others := self._next_to(level, frame[level], any_order=True):
                    other = others[self.random.integers(len(others))]
                    frame = (*frame[:level], other, *frame[level + 1 :])
            found.append(frame)
        return found

    def _next_to(self, level: int, here: Level, any_order: bool) -> list[Level]:
        key = (level, here, any_order)
        if key not in self.steps:
            others = [each for each in self.space.levels[level] if here.is_next_to(each, any_order)]
            self.steps[key] = list(dict.fromkeys((*self.space.passing_by(level, here), *others)))
        return self.steps[key]

    def _known(self) -> Digits:
        """The sizes of the front, its ends among them."""
        points = self.search.front.points
        if not points:
            return self._drawn(256)
        some = sorted({round(i) for i in np.linspace(0, len(points) - 1, 12)})
        edp = self.search.front.least_edp.digits
        return self._distinct(np.stack([edp, *(points[i].digits for i in some)], axis=1))

    def _around(self, digits: Digits) -> Digits:
        """These and some drawn around them."""
        drawn = self._mixed(digits, min(FRAME_TRIES, self.most))
        return self._within(np.concatenate([digits, drawn], axis=1))

    def _descend(self, frame: Frame, digits: Digits, rounds: int, width: int, until: float = 1.0) -> None:
        """Improve the sizes of a frame until a part of the effort is spent."""
        cycles, energy = self.search.score(frame, digits)
        scored = self.choices.keys(digits)
        done: set[int] = set()
        for _ in range(rounds):
            if self._spent(until):
                break
            chosen = _best(cycles, energy, width)
            digits, cycles, energy = digits[:, chosen], cycles[chosen], energy[chosen]
            fresh = [i for i, key in enumerate(self.choices.keys(digits).tolist()) if key not in done]
            if not fresh:
                break
            done.update(self.choices.keys(digits[:, fresh]).tolist())
            near = self._near(digits[:, fresh])
            keys = self.choices.keys(near)
            new = np.isin(keys, scored, invert=True)
            near, scored = near[:, new], np.concatenate([scored, keys[new]])
            found = self.search.score(frame, near)
            digits = np.concatenate([digits, near], axis=1)
            cycles, energy = (np.concatenate(each) for each in zip((cycles, energy), found, strict=True))

    def _near(self, digits: Digits) -> Digits:
        """One dimension split in another way, in two places or any; and two or three at once at random."""
        found: list[Digits] = []
        for row, ways in enumerate(self.choices.ways.values()):
            for column in range(digits.shape[1]):
                others = self._others(row, ways, int(digits[row, column]))
                many = np.repeat(digits[:, column : column + 1], others.size, axis=1)
                many[row] = others
                found.append(many)
        return self._within(np.concatenate([*found, self._mixed(digits, 256 * digits.shape[1])], axis=1))

    def _others(self, row: int, ways: Sizes, here: int) -> NDArray[np.int64]:
        """Other ways to split the dimension of a row: all where they are few, else some near by."""
        if ways.shape[1] <= NEAR:
            return np.arange(ways.shape[1])
        close = np.flatnonzero((ways != ways[:, here, None]).sum(axis=0) <= 2)
        if close.size > NEAR:
            close = self.random.choice(close, NEAR, replace=False)
        return np.concatenate([close, self._drawn_ways(row, NEAR // 8)])

    def _drawn_ways(self, row: int, count: int) -> NDArray[np.int64]:
        """Ways to split the dimension of a row at random, those of much waste less often."""
        sums = self._frugal[row]
        return np.searchsorted(sums, self.random.random(count) * sums[-1], side="right")

    @cached_property
    def _frugal(self) -> list[NDArray[np.float64]]:
        """Of each dimension the sums of how often each way to split it is drawn."""
        return [np.cumsum(_frugality(ways)) for ways in self.choices.ways.values()]

    def _mixed(self, digits: Digits, count: int) -> Digits:
        """`count` of them with two or three dimensions split in another way at random."""
        mixed = digits[:, np.arange(count) % digits.shape[1]]
        change = self.random.random(mixed.shape) < min(1.0, 2.5 / len(digits))
        for row in range(len(digits)):
            mixed[row, change[row]] = self._drawn_ways(row, int(change[row].sum()))
        return mixed

    def _within(self, digits: Digits) -> Digits:
        """What is within the axes, each once."""
        return self._distinct(digits[:, self.choices.within_axes(digits)])

    def _drawn(self, count: int) -> Digits:
        """Mappings at random, small tiles in inner memories more often; all at the outermost among them."""
        digits = np.zeros((len(self.choices.ways), count), np.int64)
        levels = {memory.name: i for i, memory in enumerate(self.space.hardware.memories)}
        innermost = len(levels) - 1
        for digit, (dim, ways) in zip(digits, self.choices.ways.items(), strict=True):
            often = _frugality(ways)
            for row, tiles in zip(self.choices.rows[dim], ways, strict=True):
                if level := levels.get(self.space.places[row][1], 0):
                    often /= tiles ** (1.0 if level == innermost else 0.25)
            digit[1:] = self.random.choice(ways.shape[1], size=count - 1, p=often / often.sum())
        return self._within(digits)

    def _distinct(self, digits: Digits) -> Digits:
        _, first = np.unique(self.choices.keys(digits), return_index=True)
        return digits[:, first]


def _frugality(ways: Sizes) -> NDArray[np.float64]:
    """How often each way to split a dimension is drawn: less, the more iterations too many it makes."""
    made = ways.prod(axis=0)
    return (made.min() / made) ** AVOIDED


def _kept(frame: Frame) -> int:
    """How many tiles a frame keeps."""
    return sum(len(level.keeps) for level in frame)


def _marks(front: Front) -> tuple[float, float, float]:
    return (front.fastest.cycles, front.least_energy.energy, front.least_edp.edp)


def _best(cycles: Array, energy: Array, width: int) -> np.ndarray:
    """The best by cycles, by energy and by both, without those that do not fit unless nothing does."""
    orders = (
        np.lexsort((energy, cycles)),
        np.lexsort((cycles, energy)),
        np.argsort(cycles * energy, kind="stable"),
    )
    chosen = np.unique(np.concatenate([order[:width] for order in orders]))
    return chosen[np.isfinite(cycles[chosen])]
