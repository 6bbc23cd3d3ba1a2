"""Epilogue: the vector unit brings complete sums to the output, by its own code.

Every multiplication is one of float32 numbers, rounded once; sums of two terms are of integers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.layer import Layer
from tersor.targets.accelerator.isa.epilogue import Bounds, Epilogue, Requantize, Rescale, Sums
from tersor.targets.accelerator.simulator.tensors import Tensors, output_shape

Sum = NDArray[np.int32]
STEP = 4096  # parts of a step in which two terms are added
LIMIT = 2**16 * STEP


def finish(sums: Sum, layer: Layer, epilogue: Epilogue, tensors: Tensors) -> NDArray[Any]:
    """Give the output of a layer: uint8, float32 or int32, in `output_shape`.

    `sums` are [N, G, K, P * Q], [G, N, K] of a matmul. Raises ValueError if what the epilogue needs is
    missing or has another shape.
    """
    if layer.operator == "conv2d":
        by_channel = sums.reshape(layer.N, layer.G * layer.K, -1)
        of_channel = np.arange(layer.G * layer.K)[:, None]
    else:
        by_channel = sums.reshape(layer.G, layer.N, layer.K)
        of_channel = (np.arange(layer.G)[:, None] * layer.K + np.arange(layer.K))[:, None, :]
    if tensors.bias is not None:
        bias = _one_each(tensors.bias, layer, "bias").astype(np.int32)
        by_channel = by_channel + bias[of_channel]
    match epilogue:
        case Sums():
            found: NDArray[Any] = by_channel
        case Rescale():
            found = by_channel.astype(np.float32) * _multiplier(tensors, layer)[of_channel]
        case Requantize():
            found = _requantized(by_channel, _multiplier(tensors, layer)[of_channel], epilogue, tensors)
    return found.reshape(output_shape(layer))


def _one_each(values: NDArray[Any], layer: Layer, name: str) -> NDArray[Any]:
    channels = layer.G * layer.K
    if values.size not in (1, channels):
        raise ValueError(
            f"{layer.name}: the {name} has {channels} entries, one for each channel, got {values.size}"
        )
    return np.broadcast_to(values.reshape(-1), channels)


def _multiplier(tensors: Tensors, layer: Layer) -> NDArray[np.float32]:
    if tensors.multiplier is None:
        raise ValueError(f"{layer.name}: the epilogue multiplies; give a multiplier")
    return _one_each(np.asarray(tensors.multiplier, np.float32), layer, "multiplier")


def _requantized(
    sums: Sum, multiplier: NDArray[np.float32], epilogue: Requantize, tensors: Tensors
) -> NDArray[np.uint8]:
    scaled = sums.astype(np.float32) * multiplier
    if epilogue.residual is None:
        return saturate(scaled, epilogue.zero_point, epilogue.bounds)
    if tensors.residual is None or tensors.residual.size != sums.size:
        raise ValueError("the epilogue adds a residual; give codes of the output's shape")
    centred = tensors.residual.reshape(sums.shape).astype(np.int64) - epilogue.residual.zero_point
    other = centred.astype(np.float32) * np.float32(epilogue.residual.multiplier)
    return add_in_parts(scaled, other, epilogue.zero_point, epilogue.bounds)


def saturate(scaled: NDArray[np.float32], zero_point: int, bounds: Bounds) -> NDArray[np.uint8]:
    """Round steps of the output's scale to its codes, within `bounds`."""
    low, high = bounds
    steps = np.rint(scaled)
    # Saturated as a float, which holds all codes: what is far beyond them is no integer of 32 bits.
    clipped = np.minimum(np.maximum(steps, np.float32(low - zero_point)), np.float32(high - zero_point))
    return (clipped.astype(np.int64) + zero_point).astype(np.uint8)


def add_in_parts(
    scaled: NDArray[np.float32], other: NDArray[np.float32], zero_point: int, bounds: Bounds
) -> NDArray[np.uint8]:
    """Round two terms to parts of a step, and their sum to codes within `bounds`."""
    total = (_in_parts(scaled) + _in_parts(other) + STEP // 2) // STEP + zero_point
    return np.minimum(np.maximum(total, bounds[0]), bounds[1]).astype(np.uint8)


def _in_parts(scaled: NDArray[np.float32]) -> NDArray[np.int64]:
    parts = np.rint(scaled * np.float32(STEP))
    return np.minimum(np.maximum(parts, np.float32(-LIMIT)), np.float32(LIMIT)).astype(np.int64)
