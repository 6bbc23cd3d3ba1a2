"""Choices: the sizes of all loops as one number for each dimension, that of a way to split it.

Digits are int64 arrays [dims, mappings]; they stand for sizes [places, mappings], and a column of them is one
whole number, its key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from tersor.hardware import Axis
from tersor.layer import Dim
from tersor.targets.accelerator.nest import Sizes

Digits = NDArray[np.int64]
Keys = NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """Ways to split each dimension, [its places, ways], the outermost first; `places` are those of a space.

    Raises ValueError for more choices than keys of 63 bits.
    """

    places: tuple[tuple[Dim, str], ...]
    ways: dict[Dim, Sizes]
    axes: Sequence[Axis]

    def __post_init__(self) -> None:
        if self.count >= 2**63:
            raise ValueError(f"{self.count} choices of sizes are more than 63 bits can number")

    @cached_property
    def count(self) -> int:
        """How many choices of all sizes there are, those that need too many units among them."""
        return prod(ways.shape[1] for ways in self.ways.values())

    @cached_property
    def rows(self) -> dict[Dim, list[int]]:
        """The places of each dimension."""
        return {dim: [row for row, (each, _) in enumerate(self.places) if each == dim] for dim in self.ways}

    def numbered(self, keys: Keys) -> Digits:
        """The digits of keys, each from 0 to `count`."""
        digits = np.zeros((len(self.ways), keys.size), np.int64)
        for row, ways in enumerate(self.ways.values()):
            keys, digits[row] = np.divmod(keys, ways.shape[1])
        return digits

    def keys(self, digits: Digits) -> Keys:
        """The numbers of digits."""
        keys = np.zeros(digits.shape[1], np.int64)
        for row, ways in reversed([*enumerate(self.ways.values())]):
            keys *= ways.shape[1]
            keys += digits[row]
        return keys

    def sizes(self, digits: Digits) -> Sizes:
        """The sizes [places, mappings] of digits."""
        sizes = np.ones((len(self.places), digits.shape[1]))
        for chosen, (dim, ways) in zip(digits, self.ways.items(), strict=True):
            for row, tiles in zip(self.rows[dim], ways, strict=True):
                np.take(tiles, chosen, out=sizes[row])
        return sizes

    def digits(self, sizes: Sizes) -> Digits | None:
        """The digits [dims, 1] of sizes [places, 1]; None if no way splits a dimension so."""
        digits = np.zeros((len(self.ways), 1), np.int64)
        for digit, (dim, ways) in zip(digits, self.ways.items(), strict=True):
            found = np.flatnonzero((ways == sizes[self.rows[dim]]).all(axis=0))
            if not found.size:
                return None
            digit[0] = found[0]
        return digits

    def within_axes(self, digits: Digits) -> NDArray[np.bool_]:
        """Mark what needs no more units than the axes have."""
        within = np.ones(digits.shape[1], np.bool_)
        for axis in self.axes:
            used = np.ones(digits.shape[1])
            for chosen, (dim, ways) in zip(digits, self.ways.items(), strict=True):
                for row, tiles in zip(self.rows[dim], ways, strict=True):
                    if self.places[row][1] == axis.name:
                        used *= tiles[chosen]
            within &= used <= axis.size
        return within
