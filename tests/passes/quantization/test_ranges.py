from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tersor.passes.calibrate import Observer
from tersor.passes.quantization.ranges import Method, affine, ranges
from tersor.statistics import TensorStatistics

METHODS: tuple[Method, ...] = get_args(Method)


def observe(*tensors: NDArray) -> TensorStatistics:
    observer = Observer()
    for tensor in tensors:
        observer.observe(tensor)
    return observer.statistics()


def squared_error(x: NDArray, lo: float, hi: float, bits: int = 8) -> float:
    scale, zero_point = affine(lo, hi, bits)
    codes = np.clip(np.rint(x / scale) + zero_point, 0, 2**bits - 1)
    return float(np.square(x - (codes - zero_point) * scale, dtype=np.float64).mean())


def normal(size: int = 60_000, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(1, size)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_every_range_holds_zero_and_stays_within_what_was_seen(method: Method, values: list[float]) -> None:
    x = np.array(values, np.float32)
    lo, hi = ranges(observe(x), method)
    assert min(0.0, float(x.min())) <= lo <= 0 <= hi <= max(0.0, float(x.max()))
    scale, zero_point = affine(lo, hi)
    assert scale > 0
    assert 0 <= zero_point <= 255


@pytest.mark.parametrize("method", METHODS)
def test_ranges_of_tensors_without_negative_values_begin_at_zero(method: Method) -> None:
    lo, hi = ranges(observe(np.maximum(normal(), 0)), method)
    assert lo == 0
    assert hi > 2


@pytest.mark.parametrize("method", METHODS)
def test_zeros_constants_and_single_values_have_ranges(method: Method) -> None:
    assert ranges(observe(np.zeros((1, 8), np.float32)), method) == (0, 0)
    for value in (5.0, -5.0):
        lo, hi = ranges(observe(np.full((1, 8), value, np.float32)), method)
        assert squared_error(np.full(8, value), lo, hi) < 0.03**2
    lo, hi = ranges(observe(np.array([0.25], np.float32)), method)
    assert hi == pytest.approx(0.25, rel=0.01)


def test_minmax_is_all_that_was_seen() -> None:
    x = normal()
    assert ranges(observe(x), "minmax") == (float(x.min()), float(x.max()))


def test_percentile_cuts_both_ends_like_numpy() -> None:
    x = normal(65_000)
    lo, hi = ranges(observe(x), "percentile")
    expected = np.percentile(x, [0.005, 99.995])
    np.testing.assert_allclose([lo, hi], expected, atol=0.05)
    assert x.min() < lo
    assert hi < x.max()


def test_mse_is_near_the_least_error_of_a_brute_force_search() -> None:
    for seed in range(3):
        x = normal(seed=seed)
        x[:, ::2] *= 0.2
        x[:, :20] *= 4
        lo, hi = ranges(observe(x), "mse", bits=6)
        ends = np.linspace(0.2, 1, 33)
        least = min(squared_error(x, float(x.min()) * a, float(x.max()) * b, 6) for a in ends for b in ends)
        assert squared_error(x, lo, hi, 6) <= least * 1.03


def test_mse_shrinks_each_end_by_its_own() -> None:
    x = normal()
    x[0, 0] = 30.0
    lo, hi = ranges(observe(x), "mse", bits=4)
    assert lo == pytest.approx(-3, abs=1)
    assert hi < 6
    swish = x / (1 + np.exp(-x))
    lo, hi = ranges(observe(swish), "mse")
    assert lo == pytest.approx(-0.278, abs=0.05)


def test_mse_keeps_the_whole_range_of_a_uniform_tensor() -> None:
    x = np.random.default_rng(0).random((1, 60_000), np.float32) * 6
    lo, hi = ranges(observe(x), "mse")
    assert lo == 0
    assert hi == pytest.approx(6, rel=0.01)


def test_mse_keeps_the_range_of_a_clipped_tensor() -> None:
    assert ranges(observe(np.clip(normal() * 4, 0, 6)), "mse") == (0, 6)


@pytest.mark.parametrize("method", ["percentile", "mse", "kl"])
def test_a_lone_outlier_is_clipped(method: Method) -> None:
    x = normal()
    x[0, 0] = 40.0
    lo, hi = ranges(observe(x), method, bits=8 if method != "mse" else 4)
    assert hi < 20
    assert lo < -2.5


def test_kl_keeps_the_values_of_a_gaussian() -> None:
    lo, hi = ranges(observe(normal()), "kl")
    assert lo < -3
    assert hi > 3


def test_kl_is_not_misled_by_the_many_zeros_of_a_relu() -> None:
    assert ranges(observe(np.clip(normal() * 4, 0, 6)), "kl") == (0, 6)
    _, hi = ranges(observe(np.maximum(normal(), 0)), "kl")
    assert hi > 2.5


def test_kl_keeps_all_where_the_bins_are_no_more_than_the_levels() -> None:
    x = normal()
    assert ranges(observe(x), "kl", bits=12) == ranges(observe(x), "minmax")


def test_all_methods_beat_minmax_where_there_are_outliers() -> None:
    x = normal()
    x[0, :2] = 60.0
    statistics = observe(x)
    typical = x[:, 2:]
    minmax = squared_error(typical, *ranges(statistics, "minmax"))
    for method in ("percentile", "kl"):
        assert squared_error(typical, *ranges(statistics, method)) < minmax / 10


finite = st.floats(-1e38, 1e38)


@given(finite, finite, st.sampled_from([2, 4, 8]))
def test_zero_is_exactly_a_code_and_the_range_is_covered_to_half_a_step(
    a: float, b: float, bits: int
) -> None:
    lo, hi = min(a, b, 0.0), max(a, b, 0.0)
    scale, zero_point = affine(a if a < b else b, max(a, b), bits)
    levels = 2**bits - 1
    assert scale.dtype == np.float32
    assert isinstance(zero_point, int)
    assert scale > 0
    assert 0 <= zero_point <= levels
    step = float(scale)
    slack = 0.5001 * step + 1e-6 * (hi - lo)
    assert -zero_point * step <= lo + slack
    assert (levels - zero_point) * step >= hi - slack


def test_affine_of_common_ranges() -> None:
    assert affine(0.0, 255.0) == (1, 0)
    assert affine(-128.0, 127.0) == (1, 128)
    assert affine(-255.0, 0.0) == (1, 255)
    assert affine(2.0, 255.0) == (1, 0)
    assert affine(0.0, 0.0) == (1, 0)
    assert affine(0.0, 1e-40) == (1, 0)
    with pytest.raises(ValueError, match="finite range"):
        affine(0.0, float("inf"))
