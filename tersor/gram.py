"""Gram: the second moments of what a layer's weight is multiplied with, E[x x^T], and the mean E[x].

With y = W x, the error of an output that a changed weight makes is E[(dW x)^2] = dW E[x x^T] dW^T: all that
rounding, pruning and factoring need to know of the data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError


@dataclass(frozen=True, eq=False)
class Gram:
    """The moments of the rows of a layer's input, in G groups of n columns.

    A row is what one output is a sum over. Its columns are in the order (r, s, c) of a convolution, with c
    within the group, padding counted as zeros; of a dense layer they are the C inputs, of a recurrent one the
    states.
    """

    second_moment: NDArray[np.float32]  # [G, n, n], symmetric
    mean: NDArray[np.float64]  # [G, n]
    rows: int

    def __post_init__(self) -> None:
        groups, columns = self.mean.shape if self.mean.ndim == 2 else (0, 0)
        if not columns or self.second_moment.shape != (groups, columns, columns):
            raise UserError(
                "a Gram matrix needs moments [G, n, n] and means [G, n], got shapes "
                f"{self.second_moment.shape} and {self.mean.shape}"
            )
        if self.rows < 1:
            raise UserError(f"a Gram matrix is of at least one row, got {self.rows}")
        if not (np.isfinite(self.second_moment).all() and np.isfinite(self.mean).all()):
            raise UserError("a Gram matrix needs finite moments")

    @property
    def groups(self) -> int:
        """G."""
        return self.mean.shape[0]

    @property
    def columns(self) -> int:
        """The number of columns n of a group."""
        return self.mean.shape[1]
