import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.factor import LowRank
from tersor.passes.decomposition.svd import truncated_svd
from tersor.passes.quantization.weights import dequantize_weight
from tersor.scheduler.sensitivity import (
    Activations,
    Operand,
    compress,
    noise_to_signal,
    noises,
    product_noises,
    table_noises,
)
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.weight_format import Integer
from tests.rounded_weights import quantize_weight

SEEDS = st.integers(0, 2**32 - 1)


def dense(seed: int, c: int = 64, k: int = 48) -> tuple[np.ndarray, Activations, np.ndarray]:
    """A weight [C, K], what is known of its input and output, and the inputs themselves."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(c, k)).astype(np.float32)
    inputs = random.normal(size=(4000, c)) * random.uniform(0.2, 3, size=c)
    outputs = inputs @ weight
    known = Activations((inputs**2).mean(axis=0), float((outputs**2).mean()), (inputs.min(), inputs.max()))
    return weight, known, inputs


def convolved(weight: np.ndarray, inputs: np.ndarray, groups: int) -> np.ndarray:
    """A convolution of one position: inputs [samples, G * C, R, S] -> [samples, G * K]."""
    samples = len(inputs)
    x = inputs.reshape(samples, groups, -1)
    w = weight.reshape(groups, len(weight) // groups, -1)
    return np.einsum("sgc,gkc->sgk", x, w).reshape(samples, -1)


def test_float32_adds_no_noise() -> None:
    weight, known, _ = dense(0)
    assert noise_to_signal(weight, FP32, known) == 0


@pytest.mark.parametrize("text", ["int8", "int4", "w4a8", "w8a32", "int8+2:4", "int8+rank16", "int4+rank8"])
def test_the_estimate_is_near_what_is_measured(text: str) -> None:
    scheme = Scheme.parse(text)
    weight, known, inputs = dense(1)
    low, high = known.input_range

    def rounded(x: np.ndarray, low: float, high: float) -> np.ndarray:
        if scheme.input is None:
            return x
        step = (high - low) / (2**scheme.input.bits - 1)
        return np.clip(np.rint((x - low) / step), 0, 2**scheme.input.bits - 1) * step + low

    outputs = rounded(inputs, low, high)
    if scheme.factor:
        first, second = (compress(f, scheme) for f in truncated_svd(weight, scheme.factor.rank))
        between = outputs @ first
        bound = 4 * np.sqrt((between**2).mean(axis=0).max())
        outputs = rounded(between, -bound, bound) @ second
    else:
        outputs = outputs @ compress(weight, scheme)
    measured = ((outputs - inputs @ weight) ** 2).mean() / known.output_power
    assert noise_to_signal(weight, scheme, known) == pytest.approx(measured, rel=0.2)


def test_looking_up_rounded_rows_is_as_noisy_as_they_are() -> None:
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    table[7] *= 100  # a row has its own scale
    error = dequantize_weight(*quantize_weight(table, 0), 0).astype(np.float64) - table
    power = float((table.astype(np.float64) ** 2).mean())
    found = table_noises(table, (FP32, W8A32), power)
    assert found == {FP32: 0.0, W8A32: pytest.approx((error**2).mean() / power)}


def test_the_estimate_of_a_product_is_near_what_is_measured() -> None:
    random = np.random.default_rng(0)
    left, right = random.uniform(0, 1, (200, 64)), random.normal(size=(64, 200))
    reach = float(np.abs(right).max())
    output = left @ right
    steps = 1 / 255, reach / 127.5
    measured = np.rint(left / steps[0]) * steps[0] @ (np.rint(right / steps[1]) * steps[1]) - output
    power = float((output**2).mean())
    operands = Operand(float((left**2).mean()), (0, 1)), Operand(float((right**2).mean()), (-reach, reach))
    found = product_noises(64, *operands, (FP32, INT8), power)
    assert found[FP32] == 0
    assert found[INT8] == pytest.approx((measured**2).mean() / power, rel=0.2)


@pytest.mark.parametrize(("groups", "shape"), [(1, (16, 12, 3, 3)), (4, (16, 3, 3, 3)), (12, (24, 1, 3, 3))])
def test_a_grouped_convolution_is_estimated_by_its_own_channels(groups: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(2)
    weight = random.normal(size=shape).astype(np.float32)
    channels = groups * shape[1]
    inputs = random.normal(size=(4000, channels, 3, 3)) * random.uniform(0.1, 5, size=(channels, 1, 1))
    outputs = convolved(weight, inputs, groups)
    known = Activations((inputs**2).mean(axis=(0, 2, 3)), float((outputs**2).mean()), (-20.0, 20.0))
    scheme = Scheme(weight=Integer(4))
    error = convolved(compress(weight, scheme) - weight, inputs, groups)
    assert noise_to_signal(weight, scheme, known) == pytest.approx(
        (error**2).mean() / known.output_power, rel=0.1
    )


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_more_bits_never_add_noise(seed: int) -> None:
    weight, known, _ = dense(seed)
    by_bits = [
        noise_to_signal(weight, Scheme(None, None, Integer(b), Integer(b)), known) for b in range(2, 9)
    ]
    assert by_bits == sorted(by_bits, reverse=True)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_higher_rank_adds_less_noise(seed: int) -> None:
    weight, known, _ = dense(seed)
    even = Activations(np.ones(len(weight)), known.output_power, known.input_range)
    by_rank = [noise_to_signal(weight, Scheme(LowRank(rank)), even) for rank in (1, 8, 16, 32, 48)]
    assert by_rank == sorted(by_rank, reverse=True)


def test_ranks_rated_together_are_rated_as_each_alone() -> None:
    weight, known, _ = dense(3)
    schemes = [INT8, *(Scheme(LowRank(rank), None, Integer(8), Integer(8)) for rank in (4, 16, 32))]
    together = noises(weight, schemes, known)
    for scheme in schemes:
        assert together[scheme] == pytest.approx(noise_to_signal(weight, scheme, known), rel=1e-6)


def test_what_is_known_of_the_activations_is_checked() -> None:
    with pytest.raises(ValueError, match="power above 0, got 0"):
        Activations(np.ones(3), 0.0, (0.0, 1.0))
    with pytest.raises(ValueError, match="low <= high"):
        Activations(np.ones(3), 1.0, (1.0, 0.0))
