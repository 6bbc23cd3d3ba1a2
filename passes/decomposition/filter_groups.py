"""Filter groups: a convolution in groups and one that mixes them (Peng et al., ECCV 2018).

conv RxS, C -> K   ->   conv RxS in groups, C -> K; conv 1x1, K -> K

What the weight does to the inputs of one group is approximated by its own low-rank factors, of rank
K / groups. The 1x1 convolution sets the groups' second factors side by side.
"""

import numpy as np

from tersor.passes.decomposition.low_rank import project
from tersor.passes.decomposition.matrix import Floats, filters_of, matrix_of, pointwise, refit


def filter_groups(weight: Floats, groups: int, second_moment: Floats | None = None) -> list[Floats]:
    """Give the weights [K, C / groups, R, S] and [K, K, 1, 1] for a weight [K, C, R, S].

    With a second moment [n, n] of the inputs the 1x1 convolution is fitted to the outputs of all groups.
    """
    outputs, channels, height, width = weight.shape
    matrix, rank, size = matrix_of(weight), outputs // groups, channels // groups
    columns = np.arange(matrix.shape[1]).reshape(height * width, channels)
    features = np.zeros_like(matrix)
    filters, mixing = [], []
    for group in range(groups):
        mine = columns[:, group * size : (group + 1) * size].reshape(-1)
        moment = None if second_moment is None else second_moment[np.ix_(mine, mine)]
        outer, inner = project(matrix[:, mine], rank, moment)
        features[group * rank : (group + 1) * rank, mine] = inner
        filters.append(filters_of(inner, (height, width)))
        mixing.append(outer)
    mixed = np.concatenate(mixing, axis=1)
    if second_moment is not None:
        mixed = refit(matrix, features, second_moment)
    return [np.concatenate(filters), pointwise(mixed)]
