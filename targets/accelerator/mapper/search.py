"""Search: all mappings of a space where they are few, a beam through the best of them where they are not.

The beam alternates between sizes and frames. For a frame, mappings drawn at random and what is known from
others are the first; each round splits one dimension of the best ones in every other way, and a few
dimensions at once at random, and keeps the best for time, energy and their product. Then neighbours of the
best frames are tried with the sizes of the front. The draws are those of a fixed seed.
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
from tersor.targets.accelerator.mapper.frame import count_of
from tersor.targets.accelerator.mapper.front import Frame, Front
from tersor.targets.accelerator.mapper.space import Space
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Sizes
from tersor.targets.accelerator.tiles import Array

CHUNK = 8192  # mappings evaluated at once
FEW = 1_000  # evaluations that take as long as beginning with a frame
MOST_WAYS = 192  # ways to split a dimension that a round of the beam tries, those with the least waste


@dataclass
class Search:
    """The search of one space; `evaluated` counts mappings, those that do not fit among them."""

    space: Space
    scheme: Scheme
    densities: Densities
    front: Front = field(default_factory=Front)
    evaluated: int = 0

    @cached_property
    def _bits(self) -> Array:
        layer, hardware = self.space.layer, self.space.hardware
        return element_bits(layer, self.scheme, hardware, density_of(self.scheme, self.densities))

    @property
    def work(self) -> int:
        """Evaluations that all of the space takes, the time for its frames counted as such."""
        return count_of(self.space.levels) * (self.space.size_count + FEW)

    def enumerate(self) -> None:
        """Evaluate every mapping of the space."""
        count = self.space.size_count
        for start in range(0, count, CHUNK):
            sizes = self.space.choice(np.arange(start, min(start + CHUNK, count)))
            sizes = sizes[:, self.space.within_axes(sizes)]
            for frame in product(*self.space.levels):
                self.score(frame, sizes)

    def score(self, frame: Frame, sizes: Sizes) -> tuple[Array, Array]:
        """Cycles and energy [mappings] of what is within the axes; infinite for tiles that do not fit."""
        nest, rows = self.space.nest(frame)
        cycles, energy = np.full((2, sizes.shape[1]), np.inf)
        may_fit = np.flatnonzero(fits(nest, least_bytes(nest, sizes[rows], self._bits)))
        for start in range(0, may_fit.size, CHUNK):
            part = may_fit[start : start + CHUNK]
            found = evaluate(nest, sizes[rows][:, part], self.scheme, self.densities)
            fit = fits(nest, found.needed)
            cycles[part] = np.where(fit, found.cycles, np.inf)
            energy[part] = np.where(fit, found.energy, np.inf)
        self.evaluated += sizes.shape[1]
        legal = np.isfinite(cycles)
        self.front.add(frame, sizes[:, legal], cycles[legal], energy[legal])
        return cycles, energy


class Beam:
    """The search where there are too many mappings for all of them; ends after about `effort` evaluations."""

    def __init__(self, search: Search, effort: int) -> None:
        self.search = search
        self.space = search.space
        self.effort = effort
        self.random = np.random.default_rng(0)
        self.ways: dict[Dim, Sizes] = {
            dim: _least_waste(ways, self.space.layer.size(dim)) for dim, ways in self.space.chains.items()
        }
        self.tried: set[Frame] = set()

    def run(self) -> None:
        """Fill the front of the search."""
        drawn = self._drawn(1024)
        scores = []
        for frame in product(*self.space.even):
            self.tried.add(frame)
            cycles, energy = self._descend(frame, drawn, rounds=2, width=1)
            scores.append((frame, cycles.min(), energy.min(), (cycles * energy).min()))
        best = {min(scores, key=lambda each: each[i])[0]: None for i in (1, 2, 3)}
        for frame in best:
            self._descend(frame, self._known(), rounds=6, width=4)
        while self.search.evaluated < self.effort and self._step():
            pass

    def _step(self) -> bool:
        """Try the neighbours of the best frames, and go on with what is better; false if none is left."""
        front = self.search.front
        if not front.points:
            return False
        best = {point.frame: None for point in (front.fastest, front.least_energy, front.least_edp)}
        fresh = [each for frame in best for each in self._neighbours(frame) if each not in self.tried]
        known = self._known()
        for frame in dict.fromkeys(fresh):
            before = _marks(front)
            self.tried.add(frame)
            self.search.score(frame, known)
            if _marks(front) != before:
                self._descend(frame, self._known(), rounds=4, width=3)
            if self.search.evaluated >= self.effort:
                return False
        return bool(fresh)

    def _neighbours(self, frame: Frame) -> list[Frame]:
        return [
            (*frame[:level], other, *frame[level + 1 :])
            for level, here in enumerate(frame)
            for other in self.space.levels[level]
            if here.is_next_to(other)
        ]

    def _known(self) -> Sizes:
        """The sizes of the front, its ends among them."""
        points = self.search.front.points
        if not points:
            return self._drawn(256)
        some = sorted({round(i) for i in np.linspace(0, len(points) - 1, 12)})
        edp = self.search.front.least_edp.sizes
        return np.unique(np.stack([edp, *(points[i].sizes for i in some)], axis=1), axis=1)

    def _descend(self, frame: Frame, sizes: Sizes, rounds: int, width: int) -> tuple[Array, Array]:
        """Improve the sizes of a frame; gives cycles and energy of the last ones."""
        cycles, energy = self.search.score(frame, sizes)
        done: set[bytes] = set()
        for _ in range(rounds):
            chosen = _best(cycles, energy, width)
            sizes, cycles, energy = sizes[:, chosen], cycles[chosen], energy[chosen]
            fresh = [i for i in range(chosen.size) if sizes[:, i].tobytes() not in done]
            if not fresh:
                break
            done.update(sizes[:, i].tobytes() for i in fresh)
            near = self._near(sizes[:, fresh])
            found = self.search.score(frame, near)
            sizes = np.concatenate([sizes, near], axis=1)
            cycles, energy = (np.concatenate(each) for each in zip((cycles, energy), found, strict=True))
        return cycles, energy

    def _near(self, sizes: Sizes) -> Sizes:
        """One dimension split in every other way, and two or three at once at random."""
        found: list[Sizes] = []
        for dim, ways in self.ways.items():
            many = np.repeat(sizes, ways.shape[1], axis=1)
            many[self.space.rows(dim)] = np.tile(ways, sizes.shape[1])
            found.append(many)
        mixed = np.repeat(sizes, 96, axis=1)
        dims = list(self.ways)
        change = self.random.random((len(dims), mixed.shape[1])) < min(1.0, 2.5 / len(dims))
        for dim, chosen in zip(dims, change, strict=True):
            ways = self.ways[dim]
            drawn = ways[:, self.random.integers(ways.shape[1], size=int(chosen.sum()))]
            mixed[np.ix_(self.space.rows(dim), chosen)] = drawn
        found.append(mixed)
        every = np.concatenate(found, axis=1)
        return np.unique(every[:, self.space.within_axes(every)], axis=1)

    def _drawn(self, count: int) -> Sizes:
        """Mappings at random, small tiles in inner memories more often; all at the outermost among them."""
        sizes = np.ones((len(self.space.places), count))
        levels = {memory.name: i for i, memory in enumerate(self.space.hardware.memories)}
        innermost = len(levels) - 1
        for dim, ways in self.ways.items():
            rows = self.space.rows(dim)
            rarity = np.ones(ways.shape[1])
            for row, tiles in zip(rows, ways, strict=True):
                if level := levels.get(self.space.places[row][1], 0):
                    rarity *= tiles ** (1.0 if level == innermost else 0.25)
            weight = 1 / rarity
            drawn = self.random.choice(ways.shape[1], size=count, p=weight / weight.sum())
            sizes[rows] = ways[:, drawn]
            sizes[rows, 0] = [self.space.layer.size(dim), *[1] * (len(rows) - 1)]
        return np.unique(sizes[:, self.space.within_axes(sizes)], axis=1)


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


def _least_waste(ways: Sizes, size: int) -> Sizes:
    """At most `MOST_WAYS` ways to split a dimension: those that make the fewest iterations too many."""
    order = np.argsort(ways.prod(axis=0) / size, kind="stable")
    return ways[:, order[:MOST_WAYS]]
