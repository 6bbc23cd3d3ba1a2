"""Views: a tensor as strides over the one it was transposed from, so that no transpose is carried out."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tersor.ir.graph import Expr, Graph, axes_of, operator, shape_of


@dataclass(frozen=True)
class View:
    """Element [i, j, ...] of `shape` is at ``i * strides[0] + j * strides[1] + ...`` of the tensor behind.

    `source` is that tensor's own shape; it lies row by row.
    """

    source: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "View":
        """View a tensor as it lies."""
        return cls(shape, shape, tuple(prod(shape[i + 1 :]) for i in range(len(shape))))

    def transposed(self, axes: list[int]) -> "View":
        """Give the view with its axes in another order."""
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in axes),
            strides=tuple(self.strides[axis] for axis in axes),
        )

    def untransposed(self, axes: list[int]) -> "View":
        """Give the view that `transposed(axes)` makes this one of."""
        inverse = [axes.index(axis) for axis in range(len(axes))]
        return self.transposed(inverse)


def view_behind(graph: Graph, var: Expr) -> tuple[Expr, View]:
    """Look through the transposes that make a tensor: give the tensor behind them and the view of it."""
    transposes: list[list[int]] = []
    definition: Any = graph.definition(var)
    while operator(definition) == "permute_dims":
        transposes.append(axes_of(definition))
        var = definition.args[0]
        definition = graph.definition(var)
    view = View.of(shape_of(var))
    for axes in reversed(transposes):
        view = view.transposed(axes)
    return var, view
