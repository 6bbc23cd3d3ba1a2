"""Integer semantics: what a quantized network computes, to the last bit.

Compiled code and simulators are tested for equality with these functions, not for closeness.

An activation is uint8 with one float32 scale and an integer zero point for the whole tensor,
``real = scale * (code - zero_point)``. One of fewer bits has bytes, too, but 0 to 2^bits - 1 alone: whatever
makes them saturates there. A weight is int8 with one float32 scale per output channel and zero point 0; a
bias is int32 at the scale ``input scale * weight scale``. Accumulators are int32.

Rounding is to nearest, ties to even (IEEE 754 ``roundTiesToEven``). A requantization is one float32
multiplication, rounded, then saturated, then shifted by the zero point: there is no float addition in it
that a compiler could contract to a fused multiply-add, so every machine gives the same bits. Sums of two
activations are for that reason sums of integers, of each term in 4096ths of a step, rounded once at the end.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Scale = Array | np.floating[Any]  # float32, per channel [K] or for all

UINT8 = (0, 255)
# Terms of a sum are integers in 4096ths of the output's step.
FRACTION_BITS = 12
FRACTION = float(1 << FRACTION_BITS)
# There they are saturated before they become integers, so that the conversion is always defined. No 8-bit
# result can tell: a term beyond it saturates the sum whatever the other term (<= 2**15 steps) is.
TERM_LIMIT = float(1 << 16 + FRACTION_BITS)
# The code of 1 in a recurrent state: what sigmoid * tanh gives lies between -1 and 1, whatever the data.
STATE_LIMIT = 127
# The code of zero on a symmetric grid of an activation: its codes are those of int8, moved up.
SYMMETRIC_ZERO = 128
# Of a row on its own grid: the step, in units of its largest magnitude, and the least step.
ROW_STEP = float(np.float32(1 / 127))
LEAST_ROW_SCALE = float(np.float32(1e-30))


def quantize(x: Array, scale: float, zero_point: int, bounds: tuple[int, int] = UINT8) -> Array:
    """Quantize float32 to uint8 codes within `bounds`: ``saturate(round(x / scale) + zero_point)``."""
    steps = np.rint(x.astype(np.float32) / np.float32(scale))
    return _saturate(steps, zero_point, bounds)


def dequantize(codes: Array, scale: float, zero_point: int) -> Array:
    """Give the float32 values that uint8 codes stand for."""
    return (codes.astype(np.int32) - np.int32(zero_point)).astype(np.float32) * np.float32(scale)


def quantize_bias(bias: Array, scale: Array) -> Array:
    """Quantize a float bias [K] to int32 at the accumulator's scale [K], saturating within +-2**30."""
    steps = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    return np.clip(steps, -(2.0**30), 2.0**30).astype(np.int32)


def requantize(
    accumulator: Array, multiplier: Scale, zero_point: int, bounds: tuple[int, int] = UINT8, axis: int = 1
) -> Array:
    """Bring int32 accumulators to uint8 codes.

    ``saturate(round(float32(acc) * multiplier) + zero_point)`` with the multiplier float32 [K] along `axis`
    (or a scalar); `bounds` are the codes between which the result is clipped (ReLU and clip are just that).
    """
    return _saturate(np.rint(_scaled(accumulator, multiplier, axis)), zero_point, bounds)


def requantize_add(
    accumulator: Array,
    multiplier: Scale,
    residual: Array,
    residual_multiplier: float,
    residual_zero_point: int,
    zero_point: int,
    bounds: tuple[int, int] = UINT8,
    axis: int = 1,
) -> Array:
    """Requantize an accumulator and add a uint8 residual to it, each brought to the output's scale first.

    ``saturate((term(acc * multiplier) + term(residual * its multiplier) + 2048) >> 12 + zero_point)``
    with ``term(x) = round(4096 x)``: what the reals' sum rounds to, or its neighbour where they nearly tie.
    """
    own = _term(_scaled(accumulator, multiplier, axis))
    other = _term(_scaled(_centred(residual, residual_zero_point), np.float32(residual_multiplier), axis))
    total = (own + other + np.int32(1 << FRACTION_BITS - 1)) >> FRACTION_BITS
    return np.clip(total + np.int32(zero_point), *bounds).astype(np.uint8)


def add(
    a: Array,
    a_multiplier: float,
    a_zero_point: int,
    b: Array,
    b_multiplier: float,
    b_zero_point: int,
    zero_point: int,
    bounds: tuple[int, int] = UINT8,
) -> Array:
    """Add two uint8 tensors as `requantize_add` does."""
    return requantize_add(
        _centred(a, a_zero_point), np.float32(a_multiplier), b, b_multiplier, b_zero_point, zero_point, bounds
    )


def rescale(
    codes: Array, multiplier: float, in_zero_point: int, zero_point: int, bounds: tuple[int, int] = UINT8
) -> Array:
    """Bring uint8 codes from one scale and zero point to another, clipped to `bounds`.

    This is what the operands of a concatenation and an activation on its own go through.
    """
    return requantize(_centred(codes, in_zero_point), np.float32(multiplier), zero_point, bounds)


def rescale_accumulator(accumulator: Array, scale: Array, axis: int = 1) -> Array:
    """Give the float32 values of int32 accumulators, by one multiplication: what leaves the integers."""
    return _scaled(accumulator, scale, axis)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array,
    zero_point: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Array:
    """Convolve uint8 [N, C, H, W] with int8 [K, C/groups, R, S] and add int32 [K] to int32 [N, K, P, Q].

    Padding (top, left, bottom, right) is by `zero_point`, which stands for the real zero.
    """
    top, left, bottom, right = padding
    padded = np.pad(_centred(x, zero_point).astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    batch, _, height, width = padded.shape
    channels, depth, rows, columns = weight.shape
    out_height = (height - (rows - 1) * dilation[0] - 1) // stride[0] + 1
    out_width = (width - (columns - 1) * dilation[1] - 1) // stride[1] + 1
    out = np.zeros((batch, channels, out_height, out_width), np.int64)
    per_group = channels // groups
    for r in range(rows):
        for s in range(columns):
            y0, x0 = r * dilation[0], s * dilation[1]
            window = padded[
                :,
                :,
                y0 : y0 + (out_height - 1) * stride[0] + 1 : stride[0],
                x0 : x0 + (out_width - 1) * stride[1] + 1 : stride[1],
            ]
            for g in range(groups):
                out[:, g * per_group : (g + 1) * per_group] += np.einsum(
                    "nchw,kc->nkhw",
                    window[:, g * depth : (g + 1) * depth],
                    weight[g * per_group : (g + 1) * per_group, :, r, s].astype(np.int64),
                )
    return (out + bias.reshape(1, -1, 1, 1)).astype(np.int32)


def matmul(x: Array, weight: Array, bias: Array, zero_point: int) -> Array:
    """Accumulate a dense layer: uint8 [..., C] * int8 [C, K] + int32 [K] -> int32 [..., K]."""
    product = _centred(x, zero_point).astype(np.int64) @ weight.astype(np.int64)
    return (product + bias).astype(np.int32)


def quantize_state(h: Array) -> Array:
    """Quantize a recurrent state, float32 in (-1, 1), to int8 codes: ``saturate(round(h * 127))``."""
    limit = np.float32(STATE_LIMIT)
    return np.clip(np.rint(h.astype(np.float32) * limit), -limit, limit).astype(np.int8)


def recurrent_product(h: Array, weight: Array, multiplier: Array) -> Array:
    """Multiply int8 codes [..., H] of a state with int8 [H, K]: float32 [..., K].

    The sums are exact int32; the multiplier, float32 [K], is ``weight scale / 127``.
    """
    accumulator = h.astype(np.int64) @ weight.astype(np.int64)
    return accumulator.astype(np.int32).astype(np.float32) * multiplier.astype(np.float32)


def product(a: Array, a_zero_point: int, b: Array, b_zero_point: int) -> Array:
    """Multiply two activations: uint8 [..., M, C] and uint8 [..., C, K] -> int32 [..., M, K]."""
    total = _centred(a, a_zero_point).astype(np.int64) @ _centred(b, b_zero_point).astype(np.int64)
    return total.astype(np.int32)


def row_scale(x: Array) -> Array:
    """Give the step of each row's own symmetric grid: float32 [..., C] -> float32 [..., 1].

    ``max |x| * float32(1 / 127)``, at least 1e-30 so that a row of zeros can be divided by it.
    """
    largest = np.abs(x).max(axis=-1, keepdims=True).astype(np.float32)
    return np.maximum(largest * np.float32(ROW_STEP), np.float32(LEAST_ROW_SCALE))


def quantize_rows(x: Array, scale: Array) -> Array:
    """Quantize each row of float32 [..., C] to its own step, [..., 1], with the zero point 128."""
    return _saturate(np.rint(x.astype(np.float32) / scale), SYMMETRIC_ZERO, UINT8)


def gather_rows(codes: Array, scale: Array, indices: Array) -> Array:
    """Look rows up in a table: int8 [C, K], float32 [C], integers [...] -> float32 [..., K]."""
    rows = np.clip(indices, 0, len(codes) - 1)
    return codes[rows].astype(np.float32) * scale[rows][..., None]


def average_pool(
    x: Array,
    multiplier: float,
    in_zero_point: int,
    zero_point: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    bounds: tuple[int, int] = UINT8,
) -> Array:
    """Average uint8 [N, C, H, W] over windows without padding: an int32 sum, then one requantization.

    The multiplier is ``input scale / (output scale * window size)``.
    """
    windows = np.lib.stride_tricks.sliding_window_view(_centred(x, in_zero_point), kernel, axis=(2, 3))
    total = windows[:, :, :: stride[0], :: stride[1]].sum(axis=(4, 5), dtype=np.int32)
    return requantize(total, np.float32(multiplier), zero_point, bounds)


def max_pool(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> Array:
    """Take the maximum of uint8 [N, C, H, W] over windows; padding never wins."""
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1]].max(axis=(4, 5))


def _centred(codes: Array, zero_point: int) -> Array:
    return codes.astype(np.int32) - np.int32(zero_point)


def _scaled(accumulator: Array, multiplier: Scale, axis: int) -> Array:
    multiplier = np.asarray(multiplier, np.float32)
    if multiplier.ndim == 1:
        shape = [1] * accumulator.ndim
        shape[axis] = -1
        multiplier = multiplier.reshape(shape)
    return accumulator.astype(np.int32).astype(np.float32) * multiplier


def _saturate(steps: Array, zero_point: int, bounds: tuple[int, int]) -> Array:
    low, high = bounds
    return (np.clip(steps, low - zero_point, high - zero_point).astype(np.int32) + zero_point).astype(
        np.uint8
    )


def _term(scaled: Array) -> Array:
    return np.clip(np.rint(scaled * np.float32(FRACTION)), -TERM_LIMIT, TERM_LIMIT).astype(np.int32)
