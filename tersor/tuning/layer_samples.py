"""Layer samples: shapes of layers as networks have them, spread evenly, to learn a kernel family's time from.

A Latin hypercube (McKay, Beckman and Conover 1979) over what shapes are made of: each tenth of each axis gets
a tenth of the samples. What no network would have, or takes too long to measure, is left out.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from tersor.layer import Layer
from tersor.tuning.kernel_family import KernelFamily

MOST_MACS, MOST_OF_DEPTHWISE, FEWEST = 240_000_000, 24_000_000, 10_000  # multiply-accumulates
MOST_ELEMENTS = 4_500_000  # of a weight, an input and an output
# Cubes that are drawn until there are enough legal samples; each has twice as many points.
DRAWS = 8

SIZES = (4, 7, 8, 10, 14, 16, 20, 28, 32, 40, 56, 64, 80, 112)
WINDOWS = (1, 1, 1, 3, 3, 3, 5)
DEPTHWISE_WINDOWS = (3, 3, 3, 5, 5, 7)
CHANNELS = (3, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 240, 256, 320, 480, 512, 672, 1024, 1152)
GROWTHS = (1 / 6, 1 / 4, 1 / 2, 1, 1, 1, 2, 4, 6)
STRIDES = (1, 1, 1, 2)
# Of the first layer of a network.
STEMS = (16, 24, 32, 48, 64)
STEM_WINDOWS = (3, 3, 5, 7)
ROWS = (1, 1, 1, 4, 8, 16, 32, 64, 96, 128, 197, 256)
FEATURES = (48, 64, 96, 128, 192, 256, 312, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 3072)
OUTPUTS = (10, 64, 100, 128, 192, 256, 384, 512, 768, 1000, 1024, 1280, 1536, 2048, 3072)
HEADS = (1, 2, 4, 6, 8, 12, 16)
LENGTHS = (8, 16, 32, 50, 64, 96, 128, 197, 256)
HEAD_SIZES = (16, 24, 32, 48, 64, 80, 128)

Point = NDArray[np.float64]
_Choice = TypeVar("_Choice")


def samples(family: KernelFamily, count: int, seed: int = 0) -> tuple[Layer, ...]:
    """Give at most `count` different layers that a family computes, fewer if there are not so many."""
    make = {"conv2d": _convolution, "depthwise": _depthwise, "matmul": _matmul}[family.operation]
    axes = 6
    found: dict[Layer, None] = {}
    for draw in range(DRAWS):
        cube = qmc.LatinHypercube(axes, rng=np.random.default_rng([seed, draw]))
        for point in cube.random(2 * count):
            layer = make(point)
            if _is_worth_measuring(layer):
                found[layer] = None
        if len(found) >= count:
            break
    return tuple(found)[:count]


def _convolution(point: Point) -> Layer:
    size, window = _pick(SIZES, point[0]), _pick(WINDOWS, point[1])
    inputs, stride = _pick(CHANNELS, point[2]), _pick(STRIDES, point[4])
    if inputs == 3:
        outputs, window, stride = _pick(STEMS, point[3]), _pick(STEM_WINDOWS, point[1]), 2
    else:
        outputs = max(8, round(inputs * _pick(GROWTHS, point[3]) / 8) * 8)
    batch = 1 if point[5] < 0.9 else 4
    return _image(size, window, stride, Layer("sample", "conv2d", N=batch, K=outputs, C=inputs))


def _depthwise(point: Point) -> Layer:
    size, window = _pick(SIZES, point[0]), _pick(DEPTHWISE_WINDOWS, point[1])
    channels, stride = _pick(CHANNELS[1:], point[2]), _pick(STRIDES, point[4])
    batch = 1 if point[5] < 0.9 else 4
    return _image(size, window, stride, Layer("sample", "conv2d", N=batch, G=channels))


def _image(size: int, window: int, stride: int, layer: Layer) -> Layer:
    """Give a convolution the image that it makes `stride` times smaller, of so many rows and columns then."""
    pad = window // 2
    # The input is a multiple of the stride, so the last row of the padding is not read.
    after = pad if stride == 1 else max(0, window - stride - pad)
    padding = (pad, pad, after, after)
    return replace(layer, P=size, Q=size, R=window, S=window, stride=(stride, stride), padding=padding)


def _matmul(point: Point) -> Layer:
    if point[0] < 0.6:
        rows, inputs, outputs = _pick(ROWS, point[1]), _pick(FEATURES, point[2]), _pick(OUTPUTS, point[3])
        return Layer("sample", "matmul", N=rows, C=inputs, K=outputs)
    heads, length, size = _pick(HEADS, point[1]), _pick(LENGTHS, point[2]), _pick(HEAD_SIZES, point[3])
    inner, outer = (size, length) if point[4] < 0.5 else (length, size)
    return Layer("sample", "matmul", G=heads, N=length, C=inner, K=outer, weight_bearing=False)


def _pick(choices: Sequence[_Choice], share: float) -> _Choice:
    return choices[int(share * len(choices))]


def _is_worth_measuring(layer: Layer) -> bool:
    counts = layer.weight_count, layer.input_count, layer.output_count
    most = MOST_OF_DEPTHWISE if layer.is_depthwise else MOST_MACS
    return FEWEST <= layer.macs <= most and max(counts) <= MOST_ELEMENTS
