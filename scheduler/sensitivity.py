"""Sensitivity: how much noise a scheme adds to a layer's output, from the weight and its inputs' moments.

The output is y[k] = sum over c of w[c, k] x[c]. Errors of the weight and roundings of the input are taken to
be independent of one another and of zero mean, so their powers add:

    noise[k] = sum over c of (dw[c, k]^2 E[x[c]^2] + w'[c, k]^2 step^2 / 12)

with w' = w + dw the compressed weight and step^2 / 12 the power of rounding to a step (Widrow and Kollar,
Quantization Noise, 2008). The noise-to-signal ratio is the mean of noise[k] over the mean of E[y[k]^2].
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tersor.factor import LowRank
from tersor.formats.matrix import matrix_of, weight_of
from tersor.formats.size import reads_codes
from tersor.passes.decomposition.svd import truncated_svd
from tersor.passes.pruning.pattern import mask_of
from tersor.passes.quantization.weights import rounded
from tersor.scheme import Scheme
from tersor.sparsity import Channels
from tersor.weight_format import Integer

Weight = NDArray[np.float32]
Moments = NDArray[np.float64]

# Half the range that a row, or the tensor between two factors, is taken to have: times its root mean square.
BETWEEN_FACTORS = 4.0


@dataclass(frozen=True, eq=False)
class Activations:
    """What is known of a layer's input and output.

    `input_second_moment` is E[x^2] of each input channel, float64 [G * C] (the variance, where a corrected
    bias takes up the mean); `output_power` is the mean of E[y^2]; `input_range` what the input is rounded in.
    """

    input_second_moment: Moments
    output_power: float
    input_range: tuple[float, float]

    def __post_init__(self) -> None:
        if self.input_second_moment.ndim != 1 or (self.input_second_moment < 0).any():
            raise ValueError("a second moment >= 0 for each input channel is needed")
        if not self.output_power > 0:
            raise ValueError(f"the output needs a power above 0, got {self.output_power}")
        if not self.input_range[0] <= self.input_range[1]:
            raise ValueError(f"an input range needs low <= high, got {self.input_range}")


@dataclass(frozen=True)
class Operand:
    """One operand of a product: the mean of its squares, and what it is rounded in."""

    power: float
    range: tuple[float, float]


def noise_to_signal(weight: Weight, scheme: Scheme, activations: Activations) -> float:
    """Estimate the noise power that `scheme` adds to a layer's output, relative to the output's power.

    `weight` is a matrix [C, K] or a convolution's [G * K, C, R, S].
    """
    return noises(weight, (scheme,), activations)[scheme]


def noises(weight: Weight, schemes: Iterable[Scheme], activations: Activations) -> Mapping[Scheme, float]:
    """`noise_to_signal` of several schemes; the factorization, by far the slowest part, is done once."""
    schemes = tuple(schemes)
    ranks = [scheme.factor.rank for scheme in schemes if isinstance(scheme.factor, LowRank)]
    factors = truncated_svd(weight, max(ranks)) if ranks else None
    return {
        scheme: _output_noise(weight, scheme, activations, factors) / activations.output_power
        for scheme in schemes
    }


def table_noises(table: Weight, schemes: Iterable[Scheme], output_power: float) -> Mapping[Scheme, float]:
    """The noise of looking up rows of a table [C, K], each row rounded by itself and read equally often."""
    return {
        scheme: float(np.square(_rounded_rows(table, scheme).astype(np.float64) - table).mean())
        / output_power
        for scheme in schemes
    }


def product_noises(
    length: int, left: Operand, right: Operand, schemes: Iterable[Scheme], output_power: float
) -> Mapping[Scheme, float]:
    """The noise of a product of two activations, sums of `length` terms, both operands rounded.

    noise = length * (step_left^2 / 12 E[right^2] + step_right^2 / 12 E[left^2])
    """
    noise = {}
    for scheme in schemes:
        low, high = left.range
        reach = 2 * max(-right.range[0], right.range[1])  # its grid is symmetric
        terms = (
            _rounding(high - low, scheme.input) * right.power + _rounding(reach, scheme.input) * left.power
        )
        noise[scheme] = length * terms / output_power
    return noise


def _rounded_rows(table: Weight, scheme: Scheme) -> Weight:
    if not scheme.weight:
        return table
    return rounded(table, 0, scheme.weight, reads_codes(scheme, scales_rows=True))


def _output_noise(
    weight: Weight, scheme: Scheme, activations: Activations, factors: tuple[Weight, Weight] | None
) -> float:
    """The mean over the outputs of the noise's power."""
    moment = activations.input_second_moment
    low, high = activations.input_range
    if isinstance(scheme.factor, LowRank) and factors:
        rank = scheme.factor.rank
        # The best factors of a lower rank are the first columns and rows of those of a higher one.
        first, second = (compress(f, scheme) for f in (factors[0][:, :rank], factors[1][:rank]))
        compressed = first @ second
        between = _power_between(first, moment) * BETWEEN_FACTORS**2
        rounding = _mean_over_outputs(second, np.full(rank, _rounding(2 * np.sqrt(between), scheme.input)))
    else:
        compressed = compress(weight, scheme)
        rounding = 0.0
    width = 2 * BETWEEN_FACTORS * float(np.sqrt(moment.mean())) if scheme.dynamic else high - low
    step = np.full(moment.shape, _rounding(width, scheme.input))
    return _mean_over_outputs(compressed - weight, moment) + _mean_over_outputs(compressed, step) + rounding


def compress(weight: Weight, scheme: Scheme) -> Weight:
    """The float32 weight that the sparsity and the quantization of `scheme` leave, of the same shape."""
    if scheme.sparsity and not isinstance(scheme.sparsity, Channels):
        axis = 1 if weight.ndim == 2 else 0
        matrix = matrix_of(weight, axis)
        thinned = np.where(mask_of(np.square(matrix), scheme.sparsity), matrix, np.float32(0))
        weight = weight_of(thinned, weight.shape, axis)
    if scheme.weight:
        axis = 1 if weight.ndim == 2 else 0
        weight = rounded(weight, axis, scheme.weight, reads_codes(scheme, scales_rows=False))
    return weight


def _rounding(width: float, integer: Integer | None) -> float:
    """The power of rounding values of a range to an integer's steps; 0 where they stay float32."""
    return (width / (2**integer.bits - 1)) ** 2 / 12 if integer else 0.0


def _power_between(first: Weight, moment: Moments) -> float:
    """The largest E[h^2] of h = x first, the tensor between two factors."""
    return float((first.astype(np.float64) ** 2 * moment[:, None]).sum(axis=0).max())


def _mean_over_outputs(weight: Weight, power: Moments) -> float:
    """The mean over outputs of the sum over inputs of weight^2 * power; `power` is of each input channel."""
    squares = weight.astype(np.float64) ** 2
    if weight.ndim == 2:
        return float((squares.sum(axis=1) * power).sum() / weight.shape[1])
    outputs, channels = weight.shape[:2]
    groups = len(power) // channels
    per_group = squares.reshape(groups, outputs // groups, channels, -1).sum(axis=(1, 3))
    return float((per_group * power.reshape(groups, channels)).sum() / outputs)
