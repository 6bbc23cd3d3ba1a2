"""Tucker-2: a convolution between fewer channels (Kim et al., ICLR 2016).

conv RxS, C -> K   ->   conv 1x1, C -> inputs; conv RxS, inputs -> outputs; conv 1x1, outputs -> K

The bases of both sides start as the leading singular vectors of the unfolded weight (HOSVD) and are then
found in turn, each for the other (HOOI; De Lathauwer et al., SIAM J. Matrix Anal. Appl. 2000).
"""

import numpy as np

from tersor.passes.decomposition.low_rank import project
from tersor.passes.decomposition.matrix import Floats, filters_of, leading, matrix_of, pointwise, refit

ROUNDS = 10
ENOUGH = 1e-6  # relative growth of the core's norm that ends the rounds early
DAMPING = 1e-6  # of the mean power of a channel, for channels that are never seen


def tucker(weight: Floats, ranks: tuple[int, int], second_moment: Floats | None = None) -> list[Floats]:
    """Give the weights [inputs, C, 1, 1], [outputs, inputs, R, S], [K, outputs, 1, 1] of [K, C, R, S].

    With a second moment [R * S * C, R * S * C] of the inputs, their basis is found for channels whitened by
    their mean second moment over the window, and core and outputs are the best for that basis.
    """
    channels, window = weight.shape[1], weight.shape[2:]
    if second_moment is None:
        inputs, outputs = bases(weight, ranks)
        core = np.einsum("kcrs,ci,ko->oirs", weight, inputs, outputs, optimize=True)
        return [pointwise(inputs.T), core, pointwise(outputs)]
    blocks = second_moment.reshape(window[0] * window[1], channels, window[0] * window[1], channels)
    mean = np.einsum("tctd->cd", blocks) / len(blocks)
    mean += DAMPING * max(np.trace(mean) / channels, np.finfo(np.float32).tiny) * np.eye(channels)
    root = np.linalg.cholesky(mean)
    inputs = bases(np.einsum("kcrs,cd->kdrs", weight, root), ranks)[0]
    reduced = np.linalg.solve(root.T, inputs).T  # [inputs, C], as U^T L^-1
    features = np.kron(np.eye(window[0] * window[1]), reduced)
    inner = refit(matrix_of(weight), features, second_moment)
    vectors, core = project(inner, ranks[1], features @ second_moment @ features.T)
    return [pointwise(reduced), filters_of(core, window), pointwise(vectors)]


def bases(weight: Floats, ranks: tuple[int, int]) -> tuple[Floats, Floats]:
    """Give the bases of the inputs [C, inputs] and of the outputs [K, outputs]."""
    by_input = weight.transpose(1, 0, 2, 3)
    inputs = leading(by_input.reshape(len(by_input), -1), ranks[0])
    outputs, kept = leading(weight.reshape(len(weight), -1), ranks[1]), 0.0
    for _ in range(ROUNDS):
        narrow = np.einsum("ckrs,ko->cors", by_input, outputs, optimize=True)
        inputs = leading(narrow.reshape(len(narrow), -1), ranks[0])
        narrow = np.einsum("kcrs,ci->kirs", weight, inputs, optimize=True)
        outputs = leading(narrow.reshape(len(narrow), -1), ranks[1])
        before, kept = kept, float(np.linalg.norm(outputs.T @ narrow.reshape(len(narrow), -1)))
        if kept - before <= ENOUGH * kept:
            break
    return inputs, outputs
