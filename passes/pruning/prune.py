"""Prune: keep the largest weights of each layer, in the pattern its scheme names.

matmul(x, w)   ->   matmul(x, w * mask(w))
"""

from collections.abc import Mapping

import numpy as np

from tersor.error import UserError
from tersor.ir.chains import find_chains
from tersor.ir.graph import Graph, Module, replace_weights
from tersor.passes.pruning.nm import nm_mask
from tersor.scheme import Scheme
from tersor.sparsity import NM


def prune(mod: Module, schemes: Mapping[str, Scheme]) -> Module:
    """Set the weights to zero that the schemes drop.

    Raises UserError for a pattern on a layer that is not dense, or that does not divide its input channels.
    """
    graph = Graph(mod)
    pruned = {}
    for chain in find_chains(graph):
        sparsity = schemes.get(chain.layer, Scheme()).sparsity
        if isinstance(sparsity, NM):
            if chain.operator != "matmul":
                raise UserError(
                    f"the layer {chain.layer!r} is no dense layer: remove {sparsity} from its scheme"
                )
            pruned[chain.layer] = _pruned(chain.layer, graph.weights[chain.weight], sparsity)
    return replace_weights(mod, pruned)


def _pruned(layer: str, weight: np.ndarray, sparsity: NM) -> np.ndarray:
    if weight.shape[0] % sparsity.m:
        raise UserError(
            f"the layer {layer!r} has {weight.shape[0]} input channels, no multiple of {sparsity.m}: "
            f"remove {sparsity} from its scheme"
        )
    return weight * nm_mask(weight, sparsity.n, sparsity.m, axis=0)
