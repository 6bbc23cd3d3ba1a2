"""Importance: what a network loses with a class of channels, as a sum of shares of its layers.

Each layer's shares add up to one, so classes of different layers compare: a class that runs through three
layers loses its share in all three.
"""

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.ir.chains import Chain, find_chains
from tersor.passes.extract import tensor_names
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.pruning.refit import canonical_matrix, covariance
from tersor.recipe import Criterion
from tersor.statistics import Statistics

Floats = NDArray[np.float64]
Scores = dict[int, float]  # by class of channels

DAMPING = 1e-2  # of the mean of the diagonal, before a Gram matrix is inverted (as in GPTQ, sec. 3.3)


def importance(
    dependencies: Dependencies, criterion: Criterion, statistics: Statistics | None, names: Mapping[str, str]
) -> Scores:
    """Score the classes of channels by what is lost with them.

    - magnitude, global: the squares of all weights of the group (L2 norm: Li et al., ICLR 2017; over
      groups: Fang et al., CVPR 2023)
    - wanda: of the readers' columns, times the second moment of their input (Sun et al., ICLR 2024)
    - obc: the error of the readers' outputs once their other weights are refitted, w [H^-1]^-1 w^T (Optimal
      Brain Surgeon on structures: Kurtic et al., NeurIPS 2022, eq. 5)
    - bn: the size of the factor gamma of the batch norms behind it (Liu et al., Learning Efficient
      Convolutional Networks through Network Slimming, ICCV 2017, sec. 3), of all layers on one scale
    - taylor: what the loss changes by without the channels' results, to first order (`tersor.saliency`)

    A class that the criterion knows nothing of, as one without a batch norm, has no score. `names` are those
    of `tensor_names`, by layer, of what each layer reads. Raises UserError if the statistics lack what the
    criterion needs.
    """
    chains = {chain.layer: chain for chain in find_chains(dependencies.graph)}
    scores: Scores = {}
    match criterion:
        case "magnitude" | "global":
            for layer, classes in dependencies.outputs.items():
                _share(scores, classes, _row_powers(_weight(dependencies, chains[layer])))
            for layer, classes in dependencies.inputs.items():
                _share(scores, classes, _column_powers(chains[layer], _weight(dependencies, chains[layer])))
        case "wanda":
            for layer, classes in dependencies.inputs.items():
                powers = _column_powers(chains[layer], _weight(dependencies, chains[layer]))
                moments = (
                    _second_moment(statistics, layer, names[layer]).reshape(-1, len(classes)).sum(axis=0)
                )
                _share(scores, classes, powers * moments)
        case "obc":
            for layer, classes in dependencies.inputs.items():
                _share(scores, classes, _surgeon(dependencies, chains[layer], statistics, len(classes)))
        case "bn":
            for layer, classes in dependencies.outputs.items():
                if (scale := dependencies.graph.norm_scales.get(layer)) is not None:
                    _add(scores, classes, np.abs(scale.astype(np.float64)))
        case "taylor":
            for layer, classes in dependencies.outputs.items():
                _add(scores, classes, _saliency(statistics, layer))
        case _:
            assert_never(criterion)
    return scores


def read_names(dependencies: Dependencies) -> dict[str, str]:
    """Name what each layer reads, as the statistics do."""
    names = tensor_names(dependencies.graph.mod)
    return {chain.layer: names.get(chain.data, "") for chain in find_chains(dependencies.graph)}


def _share(scores: Scores, classes: NDArray[np.int64], powers: Floats) -> None:
    _add(scores, classes, powers / (float(powers.sum()) or 1.0))


def _add(scores: Scores, classes: NDArray[np.int64], powers: Floats) -> None:
    for each, power in zip(classes.tolist(), powers.tolist(), strict=True):
        scores[each] = scores.get(each, 0.0) + power


def _weight(dependencies: Dependencies, chain: Chain) -> NDArray[np.float32]:
    return dependencies.graph.weights[chain.weight]


def _groups(chain: Chain) -> int:
    return int(chain.attributes.groups) if chain.operator == "nn.conv2d" else 1


def _row_powers(weight: NDArray[np.float32]) -> Floats:
    rows = weight.T if weight.ndim == 2 else weight
    return np.square(rows.reshape(len(rows), -1), dtype=np.float64).sum(axis=1)


def _column_powers(chain: Chain, weight: NDArray[np.float32]) -> Floats:
    if weight.ndim == 2:
        return np.square(weight, dtype=np.float64).sum(axis=1)
    return np.square(weight, dtype=np.float64).sum(axis=(0, 2, 3))


def _second_moment(statistics: Statistics | None, layer: str, tensor: str) -> Floats:
    if statistics is None or tensor not in statistics.tensors:
        raise UserError(
            f"choosing channels by what {layer!r} reads needs calibration statistics: pass "
            "statistics=calibrate(...), or choose the criterion magnitude or global"
        )
    return statistics.tensors[tensor].second_moment


def _saliency(statistics: Statistics | None, layer: str) -> Floats:
    if statistics is None or layer not in statistics.saliencies:
        raise UserError(
            f"choosing channels by taylor needs the gradients of what {layer!r} gives: calibrate for the "
            "recipe, or choose the criterion magnitude, global or bn"
        )
    return statistics.saliencies[layer].outputs


def _surgeon(
    dependencies: Dependencies, chain: Chain, statistics: Statistics | None, channels: int
) -> Floats:
    gram = None if statistics is None else statistics.grams.get(chain.layer)
    if gram is None:
        raise UserError(
            f"choosing channels by obc needs the Gram matrix of what {chain.layer!r} reads: calibrate for "
            "the recipe, or choose the criterion wanda"
        )
    matrix = canonical_matrix(_weight(dependencies, chain), _groups(chain))
    lost = np.zeros(channels)
    for weight, moments in zip(matrix, covariance(gram.second_moment, gram.mean), strict=True):
        damped = moments + np.eye(len(moments)) * (DAMPING * float(np.trace(moments)) / len(moments) or 1.0)
        inverse = np.linalg.inv(damped)
        for channel in range(channels):
            taps = slice(channel, None, channels)  # columns are in the order (r, s, c)
            columns = weight[:, taps]
            lost[channel] += np.einsum("kt,tk->", columns, np.linalg.solve(inverse[taps, taps], columns.T))
    return np.maximum(lost, 0.0)
