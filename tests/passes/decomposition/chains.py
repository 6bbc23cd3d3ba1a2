"""What a chain of convolutions computes, as one weight."""

from collections.abc import Sequence

import numpy as np


def composed(weights: Sequence[np.ndarray]) -> np.ndarray:
    """Give the weight [K, C, R, S] of the convolution that a chain of weights [K, C / groups, R, S] equals.

    At most the first or middle ones have groups: their inputs are the outputs of the one before, or C.
    """
    result = dense(weights[0], None)
    for weight in weights[1:]:
        following = dense(weight, len(result))
        rows, columns = result.shape[2:]
        height, width = following.shape[2:]
        combined = np.zeros((len(following), result.shape[1], rows + height - 1, columns + width - 1))
        for r in range(height):
            for s in range(width):
                part = np.einsum("ki,icab->kcab", following[:, :, r, s], result)
                combined[:, :, r : r + rows, s : s + columns] += part
        result = combined
    return result


def dense(weight: np.ndarray, inputs: int | None, groups: int = 0) -> np.ndarray:
    """Write the zeros of a convolution in groups out."""
    groups = groups or (inputs // weight.shape[1] if inputs else 1)
    outputs, channels = weight.shape[:2]
    result = np.zeros((outputs, channels * groups, *weight.shape[2:]))
    for group in range(groups):
        mine = slice(group * outputs // groups, (group + 1) * outputs // groups)
        result[mine, group * channels : (group + 1) * channels] = weight[mine]
    return result
