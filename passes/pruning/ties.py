"""Ties: which channels can only be dropped together, and which must stay, with the reason.

Every channel that a layer makes has a number of its own; `tie` says that two numbers are of one class.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class Ties:
    """Disjoint classes of channels; the lowest number of a class stands for it (Tarjan 1975)."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._fixed: list[tuple[Numbers, str]] = []

    def new(self, count: int) -> Numbers:
        """Number `count` channels that nothing ties so far."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def tie(self, left: Iterable[int], right: Iterable[int]) -> None:
        """Make each channel of `left` one class with the channel of `right` at its place."""
        for a, b in zip(left, right, strict=True):
            first, second = sorted((self._root(int(a)), self._root(int(b))))
            self._parent[second] = first

    def fix(self, numbers: Numbers, reason: str) -> None:
        """Let channels stay, whatever they are tied to; of several reasons the first is told."""
        self._fixed.append((numbers, reason))

    def classes(self, numbers: Numbers) -> Numbers:
        """Give the number that stands for each channel's class."""
        return np.array([self._root(int(number)) for number in numbers], np.int64)

    def fixed(self) -> dict[int, str]:
        """Give the classes that stay, with the reasons."""
        reasons: dict[int, str] = {}
        for numbers, reason in self._fixed:
            for root in self.classes(numbers):
                reasons.setdefault(int(root), reason)
        return reasons

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number
