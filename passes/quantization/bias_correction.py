"""Correct biases: take away the mean error that rounding the weights puts on a layer's output.

    op(x, w) + b   ->   op(x, w~) + (b + correction),   correction = -(w~ - w) E[x]

(Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, ICCV 2019, sec. 4.2.)
"""

import numpy as np
from numpy.typing import NDArray


def bias_correction(
    weight: NDArray[np.float32], dequantized: NDArray[np.float32], input_mean: NDArray, groups: int = 1
) -> NDArray[np.float32]:
    """What to add to the bias, [K].

    `weight` and `dequantized` are OIHW [K, C, R, S] with C per group, or [C, K] of a dense layer;
    `input_mean` is the mean per input channel, [groups * C]. The mean is taken to be the same under
    every tap: at a convolution's padded border, where taps see zeros, the correction is too large.
    """
    difference = dequantized.astype(np.float64) - weight
    per_channel = difference.T if weight.ndim == 2 else difference.sum(axis=(2, 3))
    outputs, channels = per_channel.shape
    if input_mean.shape != (groups * channels,) or outputs % groups:
        raise ValueError(
            f"a weight of shape {weight.shape} in {groups} groups needs {groups * channels} input means, "
            f"got shape {input_mean.shape}"
        )
    grouped = per_channel.reshape(groups, outputs // groups, channels)
    shift = np.einsum("gkc,gc->gk", grouped, input_mean.reshape(groups, channels))
    return (-shift).reshape(-1).astype(np.float32)


def bias_correction_by_rows(
    matrix: NDArray[np.float32], rounded: NDArray[np.float32], mean: NDArray[np.float64]
) -> NDArray[np.float32]:
    """What to add to the bias, [K], with the means of all columns of the layer's rows known.

    `matrix` and `rounded` are canonical, [K, n]; `mean` is a Gram matrix's, [G, n]: padding is in it as the
    zeros that it is.
    """
    difference = (matrix.astype(np.float64) - rounded).reshape(len(mean), -1, mean.shape[1])
    return np.einsum("gkn,gn->gk", difference, mean).reshape(-1).astype(np.float32)
