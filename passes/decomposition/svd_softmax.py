"""SVD softmax: a preview of all outputs that says which are worth working out (Shim et al., NIPS 2017).

matmul(x, w [C, K]) + b   ->   h = matmul(x, V [C, C]); p = matmul(h[..., :preview], B[:preview]) + b
                               chosen = topk(p); p[chosen] = sum(h * B^T[chosen]) + b[chosen]

W = V B with V orthogonal, and the rows of B in the order of the singular values, so the first of them hold
most of each output.
"""

import numpy as np
from numpy.typing import NDArray

from tersor.passes.decomposition.matrix import Floats, signed


def svd_softmax(weight: Floats, preview: int) -> tuple[NDArray[np.float32], ...]:
    """Give the rotation V [C, C], the preview [preview, K] and the table [K, C] of a weight [C, K]."""
    rotation = signed(np.linalg.eigh(weight @ weight.T)[1][:, ::-1])
    rotated = rotation.T @ weight
    return tuple(np.ascontiguousarray(each, np.float32) for each in (rotation, rotated[:preview], rotated.T))
