"""Criteria: which weights a network can lose. Each is a class that says what it has to know of the inputs.

magnitude   w^2                             among the weights of a layer
global      w^2, by its share of the layer  among those of all layers of one sparsity
wanda       w^2 E[x^2]                      among those of an output (Sun et al., Wanda, ICLR 2024, eq. 1)
obc         what the output loses           (`tersor.passes.pruning.obc`)
taylor      E[(g w)^2], g = dL/dw           among those of all layers of one sparsity (`tersor.saliency`)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.gram import Gram
from tersor.passes.pruning.obc import surgeon
from tersor.passes.pruning.pattern import Mask, joint_masks, mask_of
from tersor.recipe import Criterion as Name
from tersor.sparsity import Sparsity

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dense:
    """A weight before it is thinned, as its matrix [G * K, n], and what is known of its inputs.

    `centred`: the layer has a bias that takes up the mean of what is lost. `saliency` is of its weights.
    """

    matrix: Floats
    sparsity: Sparsity
    gram: Gram | None = None
    centred: bool = False
    saliency: NDArray[np.float32] | None = None  # [G * K, n]

    @property
    def moments(self) -> Floats:
        """What an output's error is weighed with, [G, n, n]: the covariance, or without a bias E[x x^T]."""
        gram = self.known
        moments = gram.second_moment.astype(np.float64)
        return moments - gram.mean[:, :, None] * gram.mean[:, None, :] if self.centred else moments

    @property
    def known(self) -> Gram:
        """The moments of the inputs, where the criterion or the repair asked for them."""
        assert self.gram is not None
        return self.gram


@dataclass(frozen=True, eq=False)
class Thinned:
    """Which weights stay, and all of them with zeros in place, both [G * K, n]."""

    mask: Mask
    matrix: Floats


class Criterion(Protocol):
    """Thins the layers of a network.

    `needs_inputs`: it needs the moments of what each layer reads; `needs_gradients`: its saliency.
    """

    needs_inputs: ClassVar[bool]
    needs_gradients: ClassVar[bool]

    def thin(self, layers: Mapping[str, Dense]) -> dict[str, Thinned]:
        """Give what is left of each layer, by its name."""
        ...


class Magnitude:
    """The largest weights of each layer stay."""

    needs_inputs: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False

    def thin(self, layers: Mapping[str, Dense]) -> dict[str, Thinned]:
        """Give what is left of each layer."""
        return {
            name: _masked(layer, mask_of(np.square(layer.matrix), layer.sparsity))
            for name, layer in layers.items()
        }


class GlobalMagnitude:
    """Of all layers of one sparsity those weights stay that are most of their layer (`joint_masks`)."""

    needs_inputs: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False

    def thin(self, layers: Mapping[str, Dense]) -> dict[str, Thinned]:
        """Give what is left of each layer."""
        return _thin_jointly(layers, {name: np.square(layer.matrix) for name, layer in layers.items()})


class Wanda:
    """The weights of each output stay that give the most to it."""

    needs_inputs: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = False

    def thin(self, layers: Mapping[str, Dense]) -> dict[str, Thinned]:
        """Give what is left of each layer."""
        return {
            name: _masked(layer, mask_of(_contributions(layer), layer.sparsity, "row"))
            for name, layer in layers.items()
        }


class Surgeon:
    """The weights stay whose loss the others of their row could least take over, and they take over."""

    needs_inputs: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = False

    def thin(self, layers: Mapping[str, Dense]) -> dict[str, Thinned]:
        """Give what is left of each layer."""
        return {
            name: Thinned(*surgeon(layer.matrix, layer.moments, layer.sparsity))
            for name, layer in layers.items()
        }


class Taylor:
    """The weights stay without which the loss would change most, to first order."""

    needs_inputs: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = True

    def thin(self, layers: Mapping[str, Dense]) -> dict[str, Thinned]:
        """Give what is left of each layer."""
        scores = {
            name: layer.saliency.astype(np.float64)
            for name, layer in layers.items()
            if layer.saliency is not None
        }
        return _thin_jointly(layers, scores)


def criterion_of(name: Name) -> Criterion:
    """Give the criterion of a recipe. Raises UserError for one that is not for single weights."""
    match name:
        case "magnitude":
            return Magnitude()
        case "global":
            return GlobalMagnitude()
        case "wanda":
            return Wanda()
        case "obc":
            return Surgeon()
        case "taylor":
            return Taylor()
        case "bn":
            raise UserError(
                "the criterion bn ranks channels, not weights, by the factor of their batch norm: "
                "choose magnitude, global, wanda or obc in the recipe, or a sparsity of channels"
            )


def _masked(layer: Dense, mask: Mask) -> Thinned:
    return Thinned(mask, np.where(mask, layer.matrix, 0.0))


def _thin_jointly(layers: Mapping[str, Dense], scores: Mapping[str, Floats]) -> dict[str, Thinned]:
    thinned: dict[str, Thinned] = {}
    for sparsity in dict.fromkeys(layer.sparsity for layer in layers.values()):
        names = [name for name, layer in layers.items() if layer.sparsity == sparsity]
        masks = joint_masks([scores[name] for name in names], sparsity)
        thinned |= {name: _masked(layers[name], mask) for name, mask in zip(names, masks, strict=True)}
    return thinned


def _contributions(layer: Dense) -> Floats:
    moments = np.diagonal(layer.known.second_moment, axis1=1, axis2=2).astype(np.float64)
    return np.square(layer.matrix) * moments.repeat(len(layer.matrix) // len(moments), axis=0)
