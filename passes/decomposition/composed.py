"""Composed: the weight that a chain of factors stands for, of the shape of the one that was factored.

[rank, C, R, 1] [K, rank, 1, S]   ->   [K, C, R, S]
"""

from collections.abc import Sequence

import numpy as np

from tersor.factor import Factor, SVDSoftmax, TensorTrain, Train
from tersor.passes.decomposition.factor_weight import Weight
from tersor.passes.decomposition.matrix import Floats


def composed(weights: Sequence[Weight], factor: Factor, shape: tuple[int, ...]) -> Weight:
    """Give the weight, [K, C, R, S] or [C, K] as `shape` says, of the layers of `Layer.factored`.

    Raises ValueError for a factor whose outputs are not linear in its inputs.
    """
    if isinstance(factor, SVDSoftmax):
        raise ValueError(f"{factor} chooses outputs by their size: no weight stands for it")
    exact = [weight.astype(np.float64) for weight in weights]
    if isinstance(factor, TensorTrain):
        return _of_train(exact, factor.train(shape[0], shape[1])).astype(np.float32)
    if len(shape) == 2:
        return (exact[0] @ exact[1]).astype(np.float32)
    result = _without_groups(exact[0], shape[1])
    for weight in exact[1:]:
        result = _behind(result, _without_groups(weight, len(result)))
    return result.astype(np.float32)


def _behind(first: Floats, second: Floats) -> Floats:
    """Give the filter [K, C, r + R - 1, s + S - 1] of [K, M, R, S] behind [M, C, r, s]."""
    (rows, columns), (height, width) = first.shape[2:], second.shape[2:]
    result = np.zeros((len(second), first.shape[1], rows + height - 1, columns + width - 1))
    for r, s in np.ndindex(height, width):
        result[:, :, r : r + rows, s : s + columns] += np.einsum("km,mcij->kcij", second[:, :, r, s], first)
    return result


def _without_groups(weight: Floats, inputs: int) -> Floats:
    """Write out the zeros of a filter [K, inputs / groups, R, S]."""
    outputs, each = weight.shape[:2]
    groups = inputs // each
    result = np.zeros((groups, outputs // groups, groups, each, *weight.shape[2:]))
    for group, part in enumerate(np.split(weight, groups)):
        result[group, :, group] = part
    return result.reshape(outputs, inputs, *weight.shape[2:])


def _of_train(weights: Sequence[Floats], train: Train) -> Floats:
    """Send the unit vectors through a tensor train: the axes are [rows, input modes, output modes, rank]."""
    inputs, count = int(np.prod(train.inputs)), len(train.inputs)
    data = np.eye(inputs).reshape(inputs, *train.inputs, 1)
    for i, weight in enumerate(weights):
        data = np.moveaxis(data, count - i, -2)
        lead = data.shape[:-2]
        data = (data.reshape(*lead, -1) @ weight).reshape(*lead, train.outputs[i], train.ranks[i + 1])
    return data.reshape(inputs, -1)
