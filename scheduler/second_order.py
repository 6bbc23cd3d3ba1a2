"""Second order: what a changed weight and a rounded input do to a layer's output, from its input's moments.

With y = W x the error of the output is E[(dW x)^2] = dW E[x x^T] dW^T: exact, for the output is linear in the
weight. Where a corrected bias takes up the mean error, the covariance stands for the second moment. This is
the Hessian of the layer's squared error, as OBS, GPTQ and AdaRound use it.
"""

import numpy as np
from numpy.typing import NDArray

from tersor.gram import Gram

Matrix = NDArray[np.float32]


def weight_noise(change: Matrix, gram: Gram, corrected: bool) -> float:
    """Give the mean over output channels of E[(dW x)^2]; `change` is the canonical matrix dW [G * K, n]."""
    moment = gram.second_moment.astype(np.float64)
    if corrected:
        moment = moment - gram.mean[:, :, None] * gram.mean[:, None, :]
    rows = change.astype(np.float64).reshape(gram.groups, -1, gram.columns)
    return max(0.0, float(np.einsum("gkn,gnm,gkm->", rows, moment, rows, optimize=True)) / len(change))


def signal(weight: Matrix, gram: Gram) -> float:
    """Give the power of the output without its mean, the mean over channels."""
    return max(weight_noise(weight, gram, corrected=True), float(np.finfo(np.float32).tiny))


def input_noise(weight: Matrix, step: float) -> float:
    """Give the noise that rounding the input to a step adds: step^2 / 12 times the squared weights."""
    return float(np.square(weight.astype(np.float64)).sum(axis=1).mean()) * step**2 / 12
