"""Search: all mappings of a space where they are few, a beam through the best of them where they are not.

The beam alternates between sizes and frames. For a frame, mappings drawn at random and what is known from
others are the first; each round splits one dimension of the best ones in every other way, and a few
dimensions at once at random, and keeps the best for time, energy and their product. Then neighbours of the
best frames are tried with the sizes of the front and some drawn around them; then frames that are further
away. The draws are those of a fixed seed.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from tersor.layer import Dim
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import density_of, element_bits
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.legality import fits, least_bytes
from tersor.targets.accelerator.mapper.choices import Choices, Digits
from tersor.targets.accelerator.mapper.frame import Level, count_of
from tersor.targets.accelerator.mapper.front import Frame, Front
from tersor.targets.accelerator.mapper.space import Space
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Sizes
from tersor.targets.accelerator.tiles import Array

CHUNK = 2048  # mappings evaluated at once: their arrays stay in a core's cache
FRAME_TRIES = 512  # sizes that a frame is tried with, about as much work as beginning with it
FEW = 1_000  # evaluations that take as long as beginning with a frame
MOST_WAYS = 192  # ways to split a dimension that a round of the beam tries, those with the least waste


@dataclass
class Search:
    """The search of one space; `evaluated` counts mappings, those that do not fit among them."""

    space: Space
    choices: Choices
    scheme: Scheme
    densities: Densities
    front: Front = field(default_factory=Front)
    evaluated: int = 0

    @cached_property
    def _bits(self) -> Array:
        layer, hardware = self.space.layer, self.space.hardware
        return element_bits(layer, self.scheme, hardware, density_of(self.scheme, self.densities))

    def enumerate(self) -> None:
        """Evaluate every mapping of the space."""
        for start in range(0, self.choices.count, CHUNK):
            digits = self.choices.numbered(np.arange(start, min(start + CHUNK, self.choices.count)))
            digits = digits[:, self.choices.within_axes(digits)]
            for frame in product(*self.space.levels):
                self.score(frame, digits)

    def score(self, frame: Frame, digits: Digits) -> tuple[Array, Array]:
        """Cycles and energy [mappings] of what is within the axes; infinite for tiles that do not fit."""
        nest, rows = self.space.nest(frame)
        sizes = self.choices.sizes(digits)[rows]
        cycles, energy = np.full((2, digits.shape[1]), np.inf)
        may_fit = np.flatnonzero(fits(nest, least_bytes(nest, sizes, self._bits)))
        for start in range(0, may_fit.size, CHUNK):
            part = may_fit[start : start + CHUNK]
            found = evaluate(nest, sizes[:, part], self.scheme, self.densities)
            fit = fits(nest, found.needed)
            cycles[part] = np.where(fit, found.cycles, np.inf)
            energy[part] = np.where(fit, found.energy, np.inf)
        self.evaluated += digits.shape[1]
        legal = np.isfinite(cycles)
        self.front.add(frame, digits[:, legal], cycles[legal], energy[legal])
        return cycles, energy


class Beam:
    """The search where there are too many mappings for all of them; ends after about `effort` evaluations."""

    def __init__(self, search: Search, effort: int) -> None:
        self.search = search
        self.space = search.space
        self.choices = search.choices
        self.effort = effort
        self.random = np.random.default_rng(0)
        self.tried: set[Frame] = set()
        self.steps: dict[tuple[int, Level, bool], list[Level]] = {}

    def run(self) -> None:
        """Fill the front of the search."""
        drawn = self._drawn(1024)
        for frame in product(*self.space.even):
            self.tried.add(frame)
            self._descend(frame, drawn, rounds=2, width=1)
        for frame in self._best_frames():
            self._descend(frame, self._known(), rounds=6, width=4)
        while self.search.front.points and self.search.evaluated < self.effort:
            close = self._step(self._neighbours(any_order=False))
            if not close and not self._step(self._neighbours(any_order=True) + self._strangers()):
                break

    def _best_frames(self) -> list[Frame]:
        front = self.search.front
        if not front.points:
            return []
        return list({point.frame: None for point in (front.fastest, front.least_energy, front.least_edp)})

    def _step(self, frames: list[Frame]) -> bool:
        """Try frames that were not tried, and go on with what is better; false if there are none."""
        front = self.search.front
        fresh = [frame for frame in dict.fromkeys(frames) if frame not in self.tried]
        known = self._known()
        some = self._within(np.concatenate([known, self._mixed(known, FRAME_TRIES)], axis=1))
        for frame in fresh:
            if self.search.evaluated >= self.effort:
                break
            before = _marks(front)
            self.tried.add(frame)
            self.search.score(frame, some)
            if _marks(front) != before:
                self._descend(frame, self._known(), rounds=4, width=3)
                known = self._known()
                some = self._within(np.concatenate([known, self._mixed(known, FRAME_TRIES)], axis=1))
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
            self.steps[key] = [each for each in self.space.levels[level] if here.is_next_to(each, any_order)]
        return self.steps[key]

    def _known(self) -> Digits:
        """The sizes of the front, its ends among them."""
        points = self.search.front.points
        if not points:
            return self._drawn(256)
        some = sorted({round(i) for i in np.linspace(0, len(points) - 1, 12)})
        edp = self.search.front.least_edp.digits
        return self._distinct(np.stack([edp, *(points[i].digits for i in some)], axis=1))

    def _descend(self, frame: Frame, digits: Digits, rounds: int, width: int) -> tuple[Array, Array]:
        """Improve the sizes of a frame; gives cycles and energy of the last ones."""
        cycles, energy = self.search.score(frame, digits)
        scored = self.choices.keys(digits)
        done: set[int] = set()
        for _ in range(rounds):
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
        return cycles, energy

    def _near(self, digits: Digits) -> Digits:
        """One dimension split in every other way, and two or three at once at random."""
        found: list[Digits] = []
        ways = [each.shape[1] for each in self.choices.ways.values()]
        for row, count in enumerate(ways):
            many = np.repeat(digits, count, axis=1)
            many[row] = np.tile(np.arange(count), digits.shape[1])
            found.append(many)
        return self._within(np.concatenate([*found, self._mixed(digits, 96 * digits.shape[1])], axis=1))

    def _mixed(self, digits: Digits, count: int) -> Digits:
        """`count` of them with two or three dimensions split in another way at random."""
        mixed = digits[:, np.arange(count) % digits.shape[1]]
        change = self.random.random(mixed.shape) < min(1.0, 2.5 / len(digits))
        for row, ways in enumerate(self.choices.ways.values()):
            mixed[row, change[row]] = self.random.integers(ways.shape[1], size=int(change[row].sum()))
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
            rarity = np.ones(ways.shape[1])
            for row, tiles in zip(self.choices.rows[dim], ways, strict=True):
                if level := levels.get(self.space.places[row][1], 0):
                    rarity *= tiles ** (1.0 if level == innermost else 0.25)
            weight = 1 / rarity
            digit[1:] = self.random.choice(ways.shape[1], size=count - 1, p=weight / weight.sum())
        return self._within(digits)

    def _distinct(self, digits: Digits) -> Digits:
        _, first = np.unique(self.choices.keys(digits), return_index=True)
        return digits[:, first]


def work(space: Space) -> int:
    """Evaluations that all of the space takes, the time for its frames counted as such."""
    return count_of(space.levels) * (space.size_count + FEW)


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


def promising(space: Space) -> Choices:
    """At most `MOST_WAYS` ways to split each dimension: those that make the fewest iterations too many.

    The first is to leave it whole at the outermost memory.
    """
    found: dict[Dim, Sizes] = {}
    for dim, ways in space.chains.items():
        order = np.argsort(ways.prod(axis=0), kind="stable")
        found[dim] = ways[:, order[:MOST_WAYS]]
    return Choices(space.places, found, space.hardware.axes)
