"""Imbalance: how long units that skip zeros take, of which the one with most to do is waited for.

Each unit goes on from one effectual product to the next, and waits for the others where a tile changes. How
many it makes till then is a matter of chance, and the array takes as long as the largest number. Of numbers
that are independent, and at most t with the probability F(t), the largest is at most t with F(t)^units, so

    E[largest] = sum over t >= 0 of 1 - F(t)^units

(H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., Wiley 2003, equation 2.1.1). The zeros of each
operand lie anywhere, whatever others do. Then F is a binomial's, if a unit meets each of its weights and
inputs once. Units that have other weights but the same inputs are independent but for these: F(t)^units is
averaged over how many of the inputs are zero. Assumed are

- of an input that meets several weights of a unit, or the reverse: a binomial of the same mean and variance;
- of units of which some share weights and others inputs: that those of the smaller kind share nothing;
- of windows that overlap: that their inputs are different ones.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln

from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.tiles import Array

Floats = NDArray[np.float64]
NODES = 128  # of a sum over more numbers than these, as many are taken
TAIL = 8  # standard deviations behind which nothing is expected
NEARLY_NONE = 1e-9  # products of a unit, of which sums of probabilities have no digits left
MOST_EXACT = 1 << 14  # products of a unit up to which the probability of each number is found


@dataclass(frozen=True)
class Factor:
    """One operand of the units' products, whose elements are other than zero with the probability `density`.

    A unit has `each` of them of a channel; `units` are those that differ in these elements alone.
    """

    each: int
    units: int
    density: float

    @property
    def square(self) -> float:
        """The mean square of how many of a unit's elements of a channel are not zero."""
        mean = self.each * self.density
        return mean * (1 - self.density) + mean**2


@dataclass(frozen=True)
class Bout:
    """What the units do between two changes of a tile.

    Of each of `channels` (taps and groups as well) a unit multiplies all of its weights by all of its inputs.
    `apart` units, times those of either factor, work at the same time.
    """

    channels: int
    apart: int
    weight: Factor
    input: Factor

    @property
    def mean(self) -> float:
        """The effectual products that a unit is expected to have."""
        first, second = self.weight, self.input
        return self.channels * first.each * first.density * second.each * second.density

    def largest(self) -> float:
        """The effectual products that the unit with most of them is expected to have."""
        scale, reduced = self.reduced()
        return scale * _largest(reduced)

    def reduced(self) -> tuple[int, "Bout"]:
        """The same without what is alike in all units, as no element of a factor can be zero.

        Each of its products is as many as are given beside it.
        """
        weight, input = (
            replace(each, each=1, units=1) if each.density == 1 else each
            for each in (self.weight, self.input)
        )
        scale = (self.weight.each // weight.each) * (self.input.each // input.each)
        return scale, replace(self, weight=weight, input=input)

    def at_most(self, counts: Floats) -> Floats:
        """With which probability no unit has more effectual products than each of `counts`, once reduced."""
        own, shared = sorted((self.weight, self.input), key=lambda each: (each.density == 1, -each.units))
        largest = self.channels * own.each * shared.each
        if own.units == 1 and shared.density < 1 and largest <= MOST_EXACT:
            return np.interp(counts, np.arange(largest + 1), self._sums()) ** self.apart
        met, chances = _binomial(self.channels * shared.each, shared.density)
        # How many times its mean the variance is, as inputs that are not zero come together in channels.
        spread = 1 + (np.maximum(met, 1) - 1) * (shared.each - 1) / max(1, self.channels * shared.each - 1)
        tries = (met * own.each / spread)[:, None]
        if self.channels == 1:  # as many weights that are not zero, each of them with as many inputs
            steps = np.floor((counts + 1e-6) / spread[:, None])
        else:
            steps = (counts + 0.5) / spread[:, None] - 0.5
        inside = (steps >= 0) & (steps < tries)
        below = betainc(
            np.where(inside, tries - steps, 1.0), np.where(inside, steps, 0.0) + 1, 1 - own.density
        )
        below = np.where(inside, below, steps >= 0)
        return (chances[:, None] * below**own.units).sum(axis=0) ** (self.apart * shared.units)

    def _sums(self) -> Floats:
        """With which probability one unit has at most 0, 1, ... effectual products: that of a sum."""
        chances = np.zeros(self.channels * self.weight.each * self.input.each + 1)
        (weights, of_weights), (inputs, of_inputs) = (
            _binomial(each.each, each.density, each.each + 1) for each in (self.weight, self.input)
        )
        products = np.multiply.outer(weights, inputs).astype(np.int64)
        np.add.at(chances, products, np.multiply.outer(of_weights, of_inputs))
        length = 2 * len(chances)
        summed = np.fft.irfft(np.fft.rfft(chances, length) ** self.channels, length)[: len(chances)]
        return np.minimum(1.0, np.maximum(summed, 0.0).cumsum())


@lru_cache(maxsize=4096)
def _largest(bout: Bout) -> float:
    units = bout.apart * bout.weight.units * bout.input.units
    most = bout.channels * bout.weight.each * bout.input.each
    if units == 1 or bout.mean in (0, most):
        return bout.mean
    variance = bout.channels * bout.weight.square * bout.input.square - bout.mean**2 / bout.channels
    deviation = sqrt(max(variance, 0.0))
    low = max(0, int(bout.mean - TAIL * deviation))
    high = min(most, int(bout.mean + (TAIL + sqrt(2 * log(units))) * deviation + TAIL) + 1)
    nodes = min(NODES, high - low)
    step = (high - low) / nodes
    counts = low + (np.arange(nodes, dtype=np.float64) + 0.5) * step - 0.5
    return low + step * float((1 - bout.at_most(counts)).sum())


def _binomial(tries: int, density: float, nodes: int = NODES) -> tuple[Floats, Floats]:
    """How many of `tries` elements are not zero, and how probably; of more numbers than `nodes` some."""
    if density == 1:
        return np.array([float(tries)]), np.ones(1)
    mean, deviation = tries * density, sqrt(tries * density * (1 - density))
    low = max(0, int(mean - TAIL * deviation) - 1)
    high = min(tries, int(mean + TAIL * deviation) + TAIL)
    found = np.unique(np.linspace(low, high, min(nodes, high - low + 1)).round())
    chances = gammaln(tries + 1) - gammaln(found + 1) - gammaln(tries - found + 1)
    chances = np.exp(chances + found * np.log(density) + (tries - found) * np.log1p(-density))
    return found, chances / chances.sum()


def imbalance(nest: Nest, sizes: Sizes, weight: float, input: float) -> Array | float:
    """How many times longer than on average [mappings] the unit with most to do takes.

    `weight` and `input` are the densities of the factors whose zeros are skipped, 1 of one whose are not.
    """
    if weight == input == 1 or not nest.spread:
        return 1.0
    bouts = np.stack(_bouts(nest, sizes)).astype(np.int64)
    kinds, which = np.unique(bouts, axis=1, return_inverse=True)
    factors = np.ones(kinds.shape[1])
    for number, (channels, apart, weights, by_weights, inputs, by_inputs) in enumerate(kinds.T.tolist()):
        bout = Bout(channels, apart, Factor(weights, by_weights, weight), Factor(inputs, by_inputs, input))
        if bout.mean > NEARLY_NONE:
            factors[number] = max(1.0, bout.largest() / bout.mean)
    return factors[which.reshape(-1)]


def _bouts(nest: Nest, sizes: Sizes) -> list[Array]:
    """Of each mapping: channels, units apart, weights of a channel and units with others, inputs alike."""
    begin = np.zeros(sizes.shape[1])  # the loops from here on are between two changes of a tile
    for operand in ("weight", "input", "output"):
        for level in nest.levels(operand)[1:]:
            for place in range(nest.position(operand, level)):
                if nest.axes[place] is None and nest.indexes(place, operand):
                    begin = np.where(sizes[place] > 1, np.maximum(begin, place + 1), begin)
    found = [np.ones(sizes.shape[1]) for _ in range(6)]
    for dim in nest.dims:
        inside, units = np.ones(sizes.shape[1]), np.ones(sizes.shape[1])
        for place in nest.loops_of.get(dim, ()):
            if nest.axes[place] is None:
                inside = inside * np.where(place >= begin, sizes[place], 1)
            else:
                units = units * sizes[place]
        inside = np.minimum(inside, nest.layer.size(dim))
        units = np.minimum(units, np.ceil(nest.layer.size(dim) / inside))
        into = 2 if dim == "K" else 4 if dim in "NPQ" else 0
        found[into], found[into + 1] = found[into] * inside, found[into + 1] * units
    return found
