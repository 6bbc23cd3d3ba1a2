"""The objective: what a layer's output loses when its weight W becomes Q.

E[((Q - W) x)^2]  =  (Q - W) G (Q - W)^T,   G = E[x x^T], row by row, the same G for all rows of a group

The part of the error that is the same for all x goes into the bias where that is corrected, so G is the
covariance then.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.gram import Gram

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]

DAMPING = 0.01
"""Share of the mean of the diagonal that is added to it (Frantar et al., GPTQ, ICLR 2023, section 3.3)."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The products of the columns of a layer's input, damped, float64 [G, n, n]."""

    products: Floats

    @classmethod
    def of(
        cls, gram: Gram, centred: bool, steps: Floats | None = None, damping: float = DAMPING
    ) -> "Objective":
        """Read it off a Gram matrix; with `steps` [G, n], of a layer whose input is divided by them.

        `centred` takes the mean out, for a layer with a corrected bias.
        """
        products = gram.second_moment.astype(np.float64)
        if centred:
            products -= gram.mean[:, :, None] * gram.mean[:, None, :]
        if steps is not None:
            products /= steps[:, :, None] * steps[:, None, :]
        diagonal = np.arange(gram.columns)
        level = products[:, diagonal, diagonal].mean(axis=1, keepdims=True)
        # Of a group whose inputs are always the same each column counts alike.
        products[:, diagonal, diagonal] += damping * np.where(level > 0, level, 1.0)
        return cls(products)

    @property
    def importance(self) -> Floats:
        """How much the columns count, [n]: the mean of their squares over the groups."""
        return np.einsum("gnn->n", self.products) / len(self.products)

    def errors(self, difference: NDArray) -> Floats:
        """The squared error of each row, [K], of a difference of weights [K, n]."""
        grouped = self.grouped(difference.astype(np.float64))
        return np.einsum("gkn,gkn->gk", grouped @ self.products, grouped).reshape(-1)

    def grouped(self, matrix: NDArray) -> NDArray:
        """Give the rows by group: [K, n] -> [G, K / G, n]."""
        return matrix.reshape(len(self.products), -1, matrix.shape[1])
