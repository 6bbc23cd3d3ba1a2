"""By recipe: round the weights of a network by the algorithm that its plan names.

matrix of a layer, statistics   ->   numbers of a grid
"""

from collections.abc import Collection, Mapping

import numpy as np

from tersor.error import UserError
from tersor.formats.grids import Grid
from tersor.passes.memo import remembered
from tersor.passes.quantization.equalization import scaled_gram
from tersor.passes.quantization.rounding.objective import Matrix, Objective
from tersor.passes.quantization.rounding.rounding import Nearest, Rounded, rounding_of
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.statistics import Statistics
from tersor.weight_format import WeightFormat


class ByRecipe:
    """Rounds matrices by layer; equal ones are rounded once.

    `tables` are the layers whose rows are looked up, which have no inputs to go by and are rounded to the
    least squared error; `uncorrected` are those whose bias takes up no mean error.
    """

    def __init__(
        self,
        recipe: Recipe,
        schemes: Mapping[str, Scheme],
        statistics: Statistics,
        tables: Collection[str] = (),
        uncorrected: Collection[str] = (),
    ) -> None:
        self._recipe = recipe
        self._schemes = schemes
        self._statistics = statistics
        self._tables = tables
        self._uncorrected = uncorrected

    def __call__(
        self, layer: str, matrix: Matrix, format: WeightFormat, integer: bool, steps: tuple[float, ...]
    ) -> tuple[Matrix, Grid]:
        """Round a canonical matrix [K, n], in which `steps` of the input's channels are multiplied already.

        Zeros of a pruned layer stay. Raises UserError where the statistics lack the Gram matrix that the
        recipe's rounding needs.
        """
        rounding = rounding_of(self._recipe)
        kept = matrix != 0 if self._schemes[layer].sparsity else None
        if not rounding.needs_gram or layer in self._tables:
            plain = Nearest(least_squares=True) if rounding.needs_gram else rounding
            rounded = plain(matrix, format, integer, None, kept)
            return rounded.values, rounded.grid
        gram = self._statistics.grams.get(layer)
        if gram is None:
            raise UserError(
                f"rounding by {self._recipe.rounding} needs to know the inputs of {layer!r}, which the "
                "calibration statistics do not have: calibrate again with this recipe"
            )
        if steps:
            gram = scaled_gram(gram, np.array(steps))
        centred = self._recipe.bias_correction and layer not in self._uncorrected

        def compute() -> Rounded:
            return rounding(matrix, format, integer, Objective.of(gram, centred), kept)

        settings = (str(rounding), str(format), integer, centred, kept is not None)
        rounded = remembered(compute, matrix.nbytes, *settings, matrix, gram.second_moment, gram.mean)
        return rounded.values, rounded.grid
