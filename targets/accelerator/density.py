"""Density: how many elements are not zero, and how many products that leaves."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tersor.layer import Layer
from tersor.targets.accelerator.products import Met, products_of


@dataclass(frozen=True)
class Densities:
    """Fractions of the elements of each operand that are not zero.

    Zeros lie anywhere, but their density may differ between input channels, for weights as for inputs. What
    that does to the products is one number: `correlation`, the mean over channels of density times density
    over the product of the means. It is 1 where the two have nothing to do with each other. Each weight is in
    as many products as any other; of inputs, those at an edge are in fewer, and padding is in some:
    `met_input` is the fraction of the products whose input is not zero, if it is not that of the elements.
    """

    weight: float = 1.0
    input: float = 1.0
    output: float = 1.0
    correlation: float = 1.0
    met_input: float | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "input", "output", "met_input"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"a density is between 0 and 1, got {value} of the {name}")
        if not self.correlation >= 0:
            raise ValueError(f"a correlation of densities is not negative, got {self.correlation}")

    @classmethod
    def of(
        cls, layer: Layer, weights: NDArray[np.bool_], inputs: NDArray[np.bool_], output: float = 1.0
    ) -> Self:
        """Read them off masks of what is not zero, so that products are counted exactly.

        `weights` are of the layer's `weight_shape`; `inputs` [N, G*C, height, width] without padding, of a
        matmul [N, C], of a batched one [G, N, C]. Raises ValueError where shapes do not fit the layer.
        """
        met: Met = products_of(layer, weights, inputs)
        weight, input = float(weights.mean()), met.input / layer.macs
        apart = weight * input
        correlation = met.both / layer.macs / apart if apart else 1.0
        return cls(weight, float(inputs.mean()), output, correlation, input)

    def products(self, operands: Collection[str]) -> float:
        """The fraction of the products in which none of these operands is zero."""
        met = self.input if self.met_input is None else self.met_input
        weight = self.weight if "weight" in operands else 1.0
        input = met if "input" in operands else 1.0
        if "weight" in operands and "input" in operands:
            return min(weight * input * self.correlation, weight, input)
        return weight * input


DENSE = Densities()
