"""Low rank: a weight as two, the first with few outputs, by a truncated singular value decomposition.

conv RxS, C -> K   ->   conv RxS, C -> rank; conv 1x1, rank -> K
matmul C -> K      ->   matmul C -> rank; matmul rank -> K

With the second moment H of the inputs the error of the output is least instead of the weight's: the output
W x is projected on the principal components of its second moment W H W^T (Zhang et al., TPAMI 2016, eq. 5).
"""

import numpy as np

from tersor.passes.decomposition.matrix import Floats, filters_of, leading, matrix_of, pointwise, principal


def project(matrix: Floats, rank: int, second_moment: Floats | None) -> tuple[Floats, Floats]:
    """Give U [K, rank] with orthonormal columns and U^T matrix [rank, n]: the best product of a rank.

    Best in Frobenius norm (Eckart and Young 1936), or in E|(matrix - U U^T matrix) x|^2 for x of a second
    moment [n, n].
    """
    if second_moment is None:
        vectors = leading(matrix, rank)
    else:
        vectors = principal(matrix @ second_moment @ matrix.T, rank)
    return vectors, vectors.T @ matrix


def low_rank(weight: Floats, rank: int, second_moment: Floats | None = None) -> list[Floats]:
    """Give the weights [rank, C, R, S] and [K, rank, 1, 1] for a weight [K, C, R, S]."""
    vectors, inner = project(matrix_of(weight), rank, second_moment)
    return [filters_of(inner, weight.shape[2:]), pointwise(np.ascontiguousarray(vectors))]
