"""Sharing: which of the memories (or units) on axes take a read of the outer memory together.

Along a dimension the tiles of a row of units begin at offsets, sums of index times step of their spreads. Of
those that read for themselves the offsets are `own`; units that take what they share in halos together have
offsets that add up to it, `together`; those that multicast the same tile have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tersor.hardware import Axis
from tersor.layer import DIMS, INDEXED_BY, Dim, Operand


@dataclass(frozen=True)
class Spreading:
    """A spread, with its axis and the level of the memory that the axis is inside of."""

    dim: Dim
    size: int
    step: int
    axis: Axis
    inside: int


@dataclass(frozen=True)
class Taking:
    """What takes tiles of `operand` from the memory at level `outer`.

    `around` are the spreads around it, `loops` the steps of the loops in time outside of the tile, by
    dimension, and `slides` is the dimension along which the tile slides.
    """

    operand: Operand
    outer: int
    around: tuple[Spreading, ...]
    loops: tuple[tuple[Dim, int], ...]
    slides: Dim | None = None

    def own(self, dim: str, first: bool) -> list[int]:
        """Offsets along `dim` of tiles that are read each for themselves, of the `first` memory or all."""
        return offsets(
            [
                spread
                for spread in self.around
                if spread.dim == dim
                and (not first if spread.inside < self.outer else not self._is_shared(spread))
            ]
        )

    def together(self, dim: str) -> list[int]:
        """Offsets along `dim` of the tiles that are read together."""
        return offsets([s for s in self.around if s.dim == dim and s.inside >= self.outer and self._joins(s)])

    def _is_shared(self, spread: Spreading) -> bool:
        return self._is_same(spread) or self._joins(spread)

    def _is_same(self, spread: Spreading) -> bool:
        return spread.dim not in INDEXED_BY[self.operand] and self.operand in spread.axis.multicast

    def _joins(self, spread: Spreading) -> bool:
        """Whether neighbours take their halos together: all that is between them must, too."""
        sliding = {"P": "PR", "Q": "QS", None: ""}[self.slides]  # type: ignore[index]  # P or Q
        if self.operand != "input" or spread.dim not in "PQRS" or spread.dim in sliding:
            return False
        if any(dim == spread.dim and step < spread.step for dim, step in self.loops):
            return False
        inner = [each for each in self.around if each.dim == spread.dim and each.step <= spread.step]
        return all(each.axis.shares_halo and each.inside >= self.outer for each in inner)


def offsets(spreads: Sequence[Spreading]) -> list[int]:
    """Where the tiles of spreads over one dimension begin."""
    steps = [[index * spread.step for index in range(spread.size)] for spread in spreads]
    return [sum(each) for each in product(*steps)]


def coordinates(spreads: Sequence[Spreading]) -> list[tuple[int, ...]]:
    """Where in all dimensions each unit of some spreads is, the last spread's neighbours first."""
    found: list[tuple[int, ...]] = []
    for indices in product(*(range(spread.size) for spread in spreads)):
        at = dict.fromkeys(DIMS, 0)
        for spread, index in zip(spreads, indices, strict=True):
            at[spread.dim] += index * spread.step
        found.append(tuple(at.values()))
    return found
