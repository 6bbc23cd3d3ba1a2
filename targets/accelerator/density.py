"""Density: how many elements are not zero, and how many products that leaves."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Densities:
    """Fractions of the elements of each operand that are not zero.

    Zeros lie anywhere, but their density may differ between input channels, for weights as for inputs. What
    that does to the products is one number: `correlation`, the mean over channels of density times density
    over the product of the means. It is 1 where the two have nothing to do with each other.
    """

    weight: float = 1.0
    input: float = 1.0
    output: float = 1.0
    correlation: float = 1.0

    def __post_init__(self) -> None:
        for name in ("weight", "input", "output"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"a density is between 0 and 1, got {getattr(self, name)} of the {name}")
        if not self.correlation >= 0:
            raise ValueError(f"a correlation of densities is not negative, got {self.correlation}")

    @classmethod
    def of(cls, weights: NDArray[np.bool_], inputs: NDArray[np.bool_], output: float = 1.0) -> Self:
        """Read them off masks of what is not zero, input channels last: weights [K, ..., C], inputs [..., C].

        Products of a layer whose window is 1x1 are then counted exactly: for each channel, each weight meets
        each input. Raises ValueError if the channels differ.
        """
        if weights.shape[-1] != inputs.shape[-1]:
            raise ValueError(
                f"weights of {weights.shape[-1]} channels do not meet inputs of {inputs.shape[-1]}"
            )
        by_weight = weights.reshape(-1, weights.shape[-1]).mean(axis=0)
        by_input = inputs.reshape(-1, inputs.shape[-1]).mean(axis=0)
        weight, input = float(by_weight.mean()), float(by_input.mean())
        both = float((by_weight * by_input).mean())
        return cls(weight, input, output, both / (weight * input) if weight and input else 1.0)

    def products(self, operands: Collection[str]) -> float:
        """The fraction of the products in which none of these operands is zero."""
        weight = self.weight if "weight" in operands else 1.0
        input = self.input if "input" in operands else 1.0
        if "weight" in operands and "input" in operands:
            return min(weight * input * self.correlation, weight, input)
        return weight * input


DENSE = Densities()
