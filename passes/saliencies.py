"""Saliencies: sum up first-order importances while a network with its gradients runs over samples.

With X [rows, n] what a layer reads of one sample and D [rows, K] the loss's gradient at what it gives, the
gradient at its weight is D^T X. Both are rounded to multiples of a power of two at 2^-18 of the largest
value, so that the sum is exact in float64 and does not depend on how BLAS orders it, nor on its threads.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tersor.passes.gradients import Use
from tersor.passes.grams import Window, rows_of
from tersor.saliency import Saliency

_BITS = 18

Run = Callable[[Mapping[str, NDArray]], Sequence[NDArray]]


class SaliencyObserver:
    """The running sums of all layers. `matrices` are the canonical matrices [K, n] of their weights."""

    def __init__(self, run: Run, uses: Sequence[Use], matrices: Mapping[str, NDArray]) -> None:
        self._run = run
        self._uses: dict[str, list[Use]] = {}
        for use in uses:
            self._uses.setdefault(use.layer, []).append(use)
        self._matrices = {layer: matrices[layer].astype(np.float64) for layer in self._uses}
        self._weights = {layer: np.zeros(matrix.shape) for layer, matrix in self._matrices.items()}
        self._outputs = {layer: np.zeros(len(matrix)) for layer, matrix in self._matrices.items()}
        self._samples = 0

    def observe(self, inputs: Mapping[str, NDArray], real: int | None = None) -> None:
        """Run one batch and take in each image by itself; only the first `real` ones where that is given."""
        *tensors, scores = self._run(inputs)
        images = len(scores)
        real = images if real is None else min(real, images)
        for layer, uses in self._uses.items():
            taken = [
                (
                    use.window,
                    np.split(tensors[use.data], images),
                    np.split(tensors[use.result], images),
                    np.split(tensors[use.gradient], images),
                )
                for use in uses
            ]
            for image in range(real):
                self._add(layer, [(use[0], use[1][image], use[2][image], use[3][image]) for use in taken])
        self._samples += real

    def _add(self, layer: str, uses: Sequence[tuple[Window, NDArray, NDArray, NDArray]]) -> None:
        slope, change = 0.0, 0.0
        for window, data, result, gradient in uses:
            slope += weight_gradient(window, data, gradient).reshape(self._matrices[layer].shape)
            steps, results = (_by_group(window, each).astype(np.float64) for each in (gradient, result))
            change += np.einsum("grk,grk->gk", steps, results).reshape(-1)
        self._weights[layer] += np.square(slope * self._matrices[layer])
        self._outputs[layer] += np.square(change)

    def saliencies(self) -> dict[str, Saliency]:
        """The means so far."""
        return {
            layer: Saliency(
                (self._weights[layer] / self._samples).astype(np.float32),
                self._outputs[layer] / self._samples,
                self._samples,
            )
            for layer in self._uses
        }


def weight_gradient(
    window: Window, data: NDArray[np.float32], gradient: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Give the loss's gradient at a layer's weight, [G, K, n], of its input and that at its result."""
    (exact, unit), (slopes, step) = _exact(data), _exact(gradient)
    rows = rows_of(window, exact, limit=None).astype(np.float64)
    return np.matmul(_by_group(window, slopes).astype(np.float64).transpose(0, 2, 1), rows) * (unit * step)


def _exact(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Give values as integers up to 2^18 and what one of them stands for."""
    largest = float(np.abs(values).max(initial=0.0))
    unit = math.ldexp(1.0, max(math.frexp(largest)[1] - _BITS, -120))
    return np.rint(values * np.float32(1 / unit)), unit


def _by_group(window: Window, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give a layer's results, [..., K] or NCHW of a convolution, as [G, rows, K]."""
    if window.kernel is None:
        return tensor.reshape(1, -1, tensor.shape[-1])
    batch, channels, height, width = tensor.shape
    grouped = tensor.reshape(batch, window.groups, channels // window.groups, height * width)
    return grouped.transpose(1, 0, 3, 2).reshape(window.groups, batch * height * width, -1)
