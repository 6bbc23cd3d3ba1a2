"""Tensors: what a layer is run on, and how that lies in the outermost memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.formats.encoded import Encoded
from tersor.layer import Layer
from tersor.targets.accelerator.simulator.stored import Stored, stored_codes, stored_weight

Codes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Tensors:
    """The constants and the input of one layer, as `tersor.arithmetic` takes them.

    `input` are uint8 codes, not padded: [N, G*C, H, W] of a convolution, [..., C] of a matmul, [G, N, C] of a
    batched one; padding is by `zero_point`. `weight` is as it is stored, or the uint8 codes [..., C, K] of a
    second activation with `weight_zero_point`. `bias` is int32 [G*K], 0 without one. `multiplier`, float32
    [G*K] or [1], is for an epilogue that has one, `residual`, uint8 of the output's shape, as well.
    """

    input: Codes
    zero_point: int
    weight: Encoded | Codes
    weight_zero_point: int = 0
    bias: NDArray[np.int32] | None = None
    multiplier: NDArray[np.float32] | None = None
    residual: Codes | None = None


def padded_input(layer: Layer, tensors: Tensors) -> Codes:
    """Give the part of the padded input that the loops touch: [N, G, C, H, W] ([G, N, C] of a matmul).

    Raises ValueError for codes of another type or shape.
    """
    codes = tensors.input
    if codes.dtype != np.uint8:
        raise ValueError(f"{layer.name}: the input is uint8 codes, got {codes.dtype}")
    if layer.operator == "matmul":
        if codes.size != layer.G * layer.N * layer.C or codes.shape[-1] != layer.C:
            expected = f"{layer.G} x {layer.N} rows of {layer.C}"
            raise ValueError(f"{layer.name}: the input has {expected} codes, got {list(codes.shape)}")
        return np.ascontiguousarray(codes.reshape(layer.G, layer.N, layer.C))
    if codes.ndim != 4 or codes.shape[:2] != (layer.N, layer.G * layer.C):
        expected = f"[{layer.N}, {layer.G * layer.C}, H, W]"
        raise ValueError(f"{layer.name}: the input is {expected}, got {list(codes.shape)}")
    top, left, bottom, right = layer.padding
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(codes, around, constant_values=tensors.zero_point)
    rows, columns = touched_size(layer)
    if padded.shape[2] < rows or padded.shape[3] < columns:
        raise ValueError(
            f"{layer.name}: the padded input has at least {rows} rows and {columns} columns, got "
            f"{padded.shape[2]} and {padded.shape[3]}"
        )
    used = padded[:, :, :rows, :columns]
    return np.ascontiguousarray(used.reshape(layer.N, layer.G, layer.C, rows, columns))


def touched_size(layer: Layer) -> tuple[int, int]:
    """Rows and columns from the first to the last of the padded input that the loops touch."""
    rows = (layer.P - 1) * layer.stride[0] + (layer.R - 1) * layer.dilation[0] + 1
    return rows, (layer.Q - 1) * layer.stride[1] + (layer.S - 1) * layer.dilation[1] + 1


def stored_of(layer: Layer, tensors: Tensors) -> Stored:
    """Give the weight as it is stored. Raises ValueError for one of another shape, or that is no integers."""
    weight = tensors.weight
    if isinstance(weight, Encoded):
        if tuple(weight.shape) != layer.weight_shape:
            expected = list(layer.weight_shape)
            raise ValueError(f"{layer.name}: the weight is {expected}, got {list(weight.shape)}")
        return stored_weight(weight)
    if weight.dtype != np.uint8 or weight.size != layer.weight_count or weight.shape[-1] != layer.K:
        raise ValueError(
            f"{layer.name}: the right operand is uint8 codes {list(layer.weight_shape)}, got "
            f"{weight.dtype} {list(weight.shape)}"
        )
    return stored_codes(weight.reshape(layer.G, layer.C, layer.K), tensors.weight_zero_point)


def output_shape(layer: Layer) -> tuple[int, ...]:
    """[N, G*K, P, Q] of a convolution, [N, K] of a matmul, [G, N, K] of a batched one."""
    if layer.operator == "conv2d":
        return layer.N, layer.G * layer.K, layer.P, layer.Q
    return (layer.N, layer.K) if layer.G == 1 else (layer.G, layer.N, layer.K)
