"""Saliency: what a network's loss changes by without a weight or an output channel, to first order.

With the gradient g = dL/dw, setting w to zero changes the loss L by -g w; squared and averaged over samples
it is the importance of the weight. (Molchanov, Mallya, Tyree, Frosio, Kautz: Importance Estimation for Neural
Network Pruning, CVPR 2019, eq. 8)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError


@dataclass(frozen=True, eq=False)
class Saliency:
    """The importance of a layer's weights and of its output channels, averaged over `samples`.

    `weights` are E[(g w)^2] as the layer's canonical matrix; `outputs` are E[(sum of g y)^2], y the results
    of a channel with its bias, the sum over the positions of one sample.
    """

    weights: NDArray[np.float32]  # [K, n]
    outputs: NDArray[np.float64]  # [K]
    samples: int

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.outputs.shape != self.weights.shape[:1]:
            raise UserError(
                "a saliency needs weights [K, n] and outputs [K], got shapes "
                f"{self.weights.shape} and {self.outputs.shape}"
            )
        if self.samples < 1:
            raise UserError(f"a saliency is of at least one sample, got {self.samples}")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.outputs).all()):
            raise UserError("a saliency needs finite numbers")
