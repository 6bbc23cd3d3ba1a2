"""Tensor train: a dense weight as a chain of small products (Novikov et al., NIPS 2015).

matmul(x, w [C, K])   ->   reshape x to [..., c1, c2, c3]; for each step: permute, matmul; reshape to [..., K]

The cores come from successive singular value decompositions (TT-SVD; Oseledets, SIAM J. Sci. Comput. 2011).
"""

import numpy as np
from numpy.typing import NDArray

from tersor.factor import Train
from tersor.passes.decomposition.matrix import Floats, leading


def tensor_train(weight: Floats, train: Train) -> tuple[NDArray[np.float32], ...]:
    """Give the weight of each step of a train, [input mode * rank, output mode * next rank], of [C, K].

    The error in Frobenius norm is at most sqrt(steps - 1) times the least for these ranks. What is between
    two steps has its norm split evenly between them.
    """
    count = len(train.inputs)
    inputs, outputs = train.inputs[::-1], train.outputs
    modes = weight.reshape(*train.inputs, *outputs)
    order = [axis for i in range(count) for axis in (count - 1 - i, count + i)]
    rest = modes.transpose(order).reshape(1, -1)
    cores: list[Floats] = []
    for i in range(count - 1):
        before, after = train.ranks[i], train.ranks[i + 1]
        unfolded = rest.reshape(before * inputs[i] * outputs[i], -1)
        vectors = leading(unfolded, after)
        rest = vectors.T @ unfolded
        split = np.sqrt(np.linalg.norm(rest, axis=1))
        split = np.where(split > 0, split, 1.0)
        cores.append((vectors * split).reshape(before, inputs[i], outputs[i], after))
        rest = rest / split[:, None]
    cores.append(rest.reshape(train.ranks[-2], inputs[-1], outputs[-1], 1))
    return tuple(
        np.ascontiguousarray(core.transpose(1, 0, 2, 3), np.float32).reshape(
            core.shape[1] * core.shape[0], core.shape[2] * core.shape[3]
        )
        for core in cores
    )
