"""Bit-operations: what arithmetic costs where only its precision is looked at, and no machine."""

from tersor.layer import Layer
from tersor.scheme import Scheme


def bit_operations(layer: Layer, scheme: Scheme) -> float:
    """Give multiply-accumulates * bits of a weight * bits of an input * density of the products.

    The measure of Louizos et al., Bayesian Compression for Deep Learning (2017), and van Baalen et al.,
    Bayesian Bits (2020). A factored weight counts as its factors, and weights that a pattern drops not at
    all; a pattern that the layer cannot be run without counts as it is.
    """
    parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
    density = scheme.sparsity.density if scheme.sparsity else 1.0
    return sum(part.macs for part in parts) * scheme.weight_bits * scheme.input_bits * density
