"""Unstructured pruning: the weights, or blocks of them, with the largest scores stay, wherever they are.

scores [...]   ->   mask [...] with max(1, round(density * size)) kept
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def kept_count(count: int, density: float) -> int:
    """How many of `count` weights or blocks stay: the nearest number, and at least one."""
    return max(1, round(count * density))


def largest(scores: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of all scores are among the `count` largest (bool, the same shape); of equal ones the first."""
    mask = np.zeros(scores.size, np.bool_)
    mask[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
    return mask.reshape(scores.shape)
