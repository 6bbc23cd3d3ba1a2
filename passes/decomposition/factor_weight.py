"""Factor a weight: the arrays of the layers that a factorization makes of one layer."""

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from tersor.factor import CP, Factor, FilterGroups, LowRank, Spatial, SVDSoftmax, TensorTrain, Tucker
from tersor.passes.decomposition.cp import cp
from tersor.passes.decomposition.filter_groups import filter_groups
from tersor.passes.decomposition.low_rank import low_rank
from tersor.passes.decomposition.matrix import Floats, balanced
from tersor.passes.decomposition.spatial import spatial
from tersor.passes.decomposition.svd_softmax import svd_softmax
from tersor.passes.decomposition.tensor_train import tensor_train
from tersor.passes.decomposition.tucker import tucker

Weight = NDArray[np.float32]


def factor_weight(weight: Weight, factor: Factor, second_moment: Floats | None = None) -> tuple[Weight, ...]:
    """Give the weights of the layers of `Layer.factored`, in order, for a weight [K, C, R, S] or [C, K].

    With the second moment [n, n] of the layer's inputs, in the order of `matrix_of`'s columns, the error of
    its output is lessened instead of the weight's; tensor trains and previews go without. The caller has
    asked `why_no_chain`.
    """
    if weight.ndim == 2:
        return _of_dense(weight, factor, second_moment)
    exact = weight.astype(np.float64)
    match factor:
        case LowRank():
            return balanced(low_rank(exact, factor.rank, second_moment))
        case Spatial():
            return balanced(spatial(exact, factor.rank, second_moment))
        case FilterGroups():
            return balanced(filter_groups(exact, factor.groups, second_moment))
        case Tucker():
            return balanced(tucker(exact, (factor.inputs, factor.outputs), second_moment))
        case CP():
            return balanced(cp(exact, factor.rank, second_moment))
        case TensorTrain() | SVDSoftmax():
            raise ValueError(f"{factor} is for dense layers")
        case _:
            assert_never(factor)


def _of_dense(weight: Weight, factor: Factor, second_moment: Floats | None) -> tuple[Weight, ...]:
    exact = weight.astype(np.float64)
    match factor:
        case LowRank():
            pair = balanced(low_rank(exact.T[:, :, None, None], factor.rank, second_moment))
            return tuple(np.ascontiguousarray(each[:, :, 0, 0].T) for each in pair)
        case TensorTrain():
            return tensor_train(exact, factor.train(*weight.shape))
        case SVDSoftmax():
            return svd_softmax(exact, factor.preview)
        case _:
            raise ValueError(f"{factor} is for convolutions")
