"""Products: how many products of a layer meet zeros, counted on masks of its weight and its input.

Weight (k, c, r, s) meets one input for each output, so of each channel c and tap (r, s), every weight meets
every input that the tap sees: the counts of both are multiplied, and added up over channels and taps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.factor import input_size
from tersor.layer import Layer


@dataclass(frozen=True)
class Met:
    """Of a layer's products, how many have an input that is not zero, and in how many neither factor is."""

    input: int
    both: int


def products_of(layer: Layer, weights: NDArray[np.bool_], inputs: NDArray[np.bool_]) -> Met:
    """Count products exactly; masks are true where an element is not zero, and padding is zero.

    `weights` are of the layer's `weight_shape`; `inputs` [N, G*C, height, width] without padding, of a matmul
    [N, C], of a batched one [G, N, C]. Raises ValueError where shapes do not fit the layer.
    """
    if layer.operator == "gather":
        raise ValueError(f"{layer.name} looks rows up and multiplies nothing")
    if weights.shape != layer.weight_shape:
        raise ValueError(f"the weight of {layer.name} is {list(layer.weight_shape)}, got {_sizes(weights)}")
    by_weight, by_input = _weights(layer, weights), _inputs(layer, inputs)
    return Met(layer.K * int(by_input.sum()), int((by_weight * by_input).sum()))


def _weights(layer: Layer, weights: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Weights that are not zero of each channel and tap: [G, C, R, S]."""
    if layer.operator == "conv2d":
        return weights.reshape(layer.G, layer.K, layer.C, layer.R, layer.S).sum(axis=1, dtype=np.int64)
    return weights.sum(axis=-1, dtype=np.int64).reshape(layer.G, layer.C, 1, 1)


def _inputs(layer: Layer, inputs: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Inputs that are not zero of each channel, as each tap sees them: [G, C, R, S]."""
    if layer.operator == "matmul":
        expected = (layer.N, layer.C) if layer.G == 1 else (layer.G, layer.N, layer.C)
        if inputs.shape != expected:
            raise ValueError(f"the input of {layer.name} is {list(expected)}, got {_sizes(inputs)}")
        return inputs.sum(axis=-2, dtype=np.int64).reshape(layer.G, layer.C, 1, 1)
    _check_image(layer, inputs)
    (top, left, bottom, right), (down, across) = layer.padding, layer.stride
    padded = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right)))
    seen = np.empty((layer.G * layer.C, layer.R, layer.S), np.int64)
    for r in range(layer.R):
        for s in range(layer.S):
            first_row, first_column = r * layer.dilation[0], s * layer.dilation[1]
            rows = slice(first_row, first_row + (layer.P - 1) * down + 1, down)
            columns = slice(first_column, first_column + (layer.Q - 1) * across + 1, across)
            seen[:, r, s] = padded[:, :, rows, columns].sum(axis=(0, 2, 3))
    return seen.reshape(layer.G, layer.C, layer.R, layer.S)


def _check_image(layer: Layer, inputs: NDArray[np.bool_]) -> None:
    """Rows and columns at the far edges that a stride steps over may be there or not."""
    least = input_size(layer)
    fits = inputs.ndim == 4 and inputs.shape[:2] == (layer.N, layer.G * layer.C)
    if not fits or any(
        not small <= size < small + stride
        for small, size, stride in zip(least, inputs.shape[2:], layer.stride, strict=True)
    ):
        expected = [layer.N, layer.G * layer.C, *least]
        raise ValueError(f"the input of {layer.name} is {expected}, got {_sizes(inputs)}")


def _sizes(mask: NDArray[np.bool_]) -> list[int]:
    return list(mask.shape)
