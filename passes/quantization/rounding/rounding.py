"""Roundings: the algorithms that a recipe can name, each with the statistics that it needs.

matrix [K, n], format   ->   numbers of a grid [K, n], and the grid
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tersor.formats.grids import Grid, fit
from tersor.passes.quantization.rounding.descent import descend
from tersor.passes.quantization.rounding.entropy import entropy_constrained, even
from tersor.passes.quantization.rounding.gptq import gptq
from tersor.passes.quantization.rounding.objective import Matrix, Objective
from tersor.recipe import Recipe
from tersor.recipe import Rounding as Name
from tersor.weight_format import Codebook, Integer, PowerOfTwo, WeightFormat

Kept = NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Rounded:
    """Numbers of a grid for a canonical matrix, [K, n], and the grid that they are on."""

    values: Matrix
    grid: Grid


class Rounding(Protocol):
    """An algorithm that finds a grid of a format for a canonical matrix, and numbers on it.

    `needs_gram` says whether it needs the `Objective` of the layer, and with it a Gram matrix of its input.
    Where `kept` is false the numbers are zero.
    """

    needs_gram: ClassVar[bool]

    def __call__(
        self,
        matrix: Matrix,
        format: WeightFormat,
        integer: bool,
        objective: Objective | None,
        kept: Kept = None,
    ) -> Rounded:
        """Round a matrix."""
        ...


@dataclass(frozen=True)
class Nearest:
    """The nearest number of a grid that reaches the largest weight, or has the least squared error."""

    least_squares: bool = False
    needs_gram: ClassVar[bool] = False

    def __call__(
        self,
        matrix: Matrix,
        format: WeightFormat,
        integer: bool,
        objective: Objective | None,
        kept: Kept = None,
    ) -> Rounded:
        """Round each weight by itself."""
        grid = fit(matrix, format, integer, "mse" if self.least_squares else "nearest")
        return Rounded(_kept(grid.nearest(matrix), kept), grid)


@dataclass(frozen=True)
class Gptq:
    """Column by column, the columns behind making up for the error (`gptq`)."""

    needs_gram: ClassVar[bool] = True

    def __call__(
        self,
        matrix: Matrix,
        format: WeightFormat,
        integer: bool,
        objective: Objective | None,
        kept: Kept = None,
    ) -> Rounded:
        """Round within the range of least squared error, weighed by the inputs."""
        assert objective is not None
        grid = fit(matrix, format, integer, "mse", objective.importance)
        return Rounded(gptq(matrix, grid, objective, kept), grid)


@dataclass(frozen=True)
class Learned:
    """GPTQ within several ranges for each channel, and a descent from the best of them to a minimum."""

    stretches: tuple[float, ...] = (1.0, 0.8, 0.87, 0.94, 1.08, 1.16)  # of the range; 1 first: it wins ties
    sweeps: int = 20
    needs_gram: ClassVar[bool] = True

    def __call__(
        self,
        matrix: Matrix,
        format: WeightFormat,
        integer: bool,
        objective: Objective | None,
        kept: Kept = None,
    ) -> Rounded:
        """Round by what the layer's output loses."""
        assert objective is not None
        grid = fit(matrix, format, integer, "mse", objective.importance)
        factors = np.ones(len(matrix), np.float32)
        best = gptq(matrix, grid, objective, kept)
        least = objective.errors(best - matrix)
        # Of few levels another range is worth more than it costs to try.
        few = isinstance(format, Integer | PowerOfTwo) and len(grid.levels) <= 32
        for factor in self.stretches[1:] if few else ():
            tried = np.full_like(factors, factor)
            found = gptq(matrix, stretched(grid, tried), objective, kept)
            errors = objective.errors(found - matrix)
            better = errors < least
            best = np.where(better[:, None], found, best)
            factors, least = np.where(better, tried, factors), np.where(better, errors, least)
        grid = stretched(grid, factors)
        return Rounded(descend(matrix, best, grid, objective, self.sweeps, kept), grid)


@dataclass(frozen=True)
class Entropy:
    """Numbers that take few bits when entropy coded, by what a bit is worth (`entropy_constrained`)."""

    rate: float = Recipe.rate
    needs_gram: ClassVar[bool] = True

    def __call__(
        self,
        matrix: Matrix,
        format: WeightFormat,
        integer: bool,
        objective: Objective | None,
        kept: Kept = None,
    ) -> Rounded:
        """Round from the range of least squared error, a codebook of floats from even steps."""
        assert objective is not None
        grid = fit(matrix, format, integer, "mse", objective.importance)
        if isinstance(format, Codebook) and format.bits > 1 and not integer:
            # Even steps and an entropy coder come near the best of all (Gish and Pierce, 1968).
            grid = even(grid, matrix)
        return Rounded(*entropy_constrained(matrix, grid, objective, self.rate, kept))


ROUNDINGS: dict[Name, Rounding] = {
    "nearest": Nearest(),
    "mse": Nearest(least_squares=True),
    "gptq": Gptq(),
    "adaround": Learned(),
    "entropy": Entropy(),
}


def rounding_of(recipe: Recipe) -> Rounding:
    """Give the rounding that a recipe names, with its settings."""
    return Entropy(recipe.rate) if recipe.rounding == "entropy" else ROUNDINGS[recipe.rounding]


def stretched(grid: Grid, factors: NDArray[np.float32]) -> Grid:
    """Multiply all numbers of each row of a grid by a factor, [K]."""
    scale = None if grid.scale is None else grid.scale * factors
    return replace(grid, scales=grid.scales * factors[:, None], scale=scale)


def _kept(values: Matrix, kept: Kept) -> Matrix:
    return values if kept is None else np.where(kept, values, np.float32(0))
