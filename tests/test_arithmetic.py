from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor import arithmetic as A


def u8(*codes: int) -> np.ndarray:
    return np.array(codes, np.uint8)


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# Quantize and dequantize


def test_quantize_divides_rounds_shifts_and_saturates() -> None:
    x = f32(-10, -0.5, 0, 0.5, 1.0, 126, 127.6, 1e30)
    np.testing.assert_array_equal(A.quantize(x, 0.5, 3), u8(0, 2, 3, 4, 5, 255, 255, 255))


def test_quantize_rounds_ties_to_even() -> None:
    np.testing.assert_array_equal(A.quantize(f32(0.5, 1.5, 2.5, 3.5), 1.0, 0), u8(0, 2, 2, 4))
    # The tie is broken before the zero point is added: an odd one turns nothing round.
    np.testing.assert_array_equal(A.quantize(f32(-2.5, -1.5, -0.5, 0.5, 1.5), 1.0, 3), u8(1, 1, 3, 3, 5))


def test_dequantize_takes_the_zero_point_away_and_scales() -> None:
    np.testing.assert_array_equal(A.dequantize(u8(0, 3, 255), 0.5, 3), f32(-1.5, 0, 126))
    assert A.dequantize(u8(1), 0.5, 3).dtype == np.float32


@given(st.integers(0, 255), st.integers(0, 255), st.floats(2**-20, 2**20, width=32))
def test_codes_survive_dequantize_and_quantize(code: int, zero_point: int, scale: float) -> None:
    assert A.quantize(A.dequantize(u8(code), scale, zero_point), scale, zero_point)[0] == code


# Biases


def test_quantize_bias_rounds_at_the_accumulators_scale() -> None:
    scale = np.array([0.5, 0.25], np.float64)
    np.testing.assert_array_equal(A.quantize_bias(f32(1.0, -1.0), scale), i32(2, -4))
    np.testing.assert_array_equal(A.quantize_bias(f32(0.25, 0.375), scale), i32(0, 2))  # 0.5 -> 0, 1.5 -> 2


def test_quantize_bias_saturates() -> None:
    np.testing.assert_array_equal(A.quantize_bias(f32(1e30, -1e30), f32(1e-3, 1e-3)), i32(2**30, -(2**30)))


# Requantization


def test_requantize_by_hand() -> None:
    acc = i32(-100, -1, 0, 1, 5, 100, 10_000).reshape(1, 1, -1)
    expected = u8(0, 10, 10, 10, 12, 60, 255).reshape(1, 1, -1)  # x 0.5: -0.5, 0.5 and 2.5 go to even
    np.testing.assert_array_equal(A.requantize(acc, np.float32(0.5), 10), expected)


def test_requantize_has_one_multiplier_per_channel() -> None:
    acc = np.full((1, 2, 2), 8, np.int32)
    np.testing.assert_array_equal(A.requantize(acc, f32(0.25, 2.0), 1), [[[3, 3], [17, 17]]])
    np.testing.assert_array_equal(A.requantize(acc, f32(0.25, 2.0), 1, axis=2), [[[3, 17], [3, 17]]])


def test_requantize_clips_to_the_bounds_of_an_activation() -> None:
    acc = i32(-50, -3, 0, 3, 50).reshape(1, -1)
    one = np.float32(1)
    np.testing.assert_array_equal(A.requantize(acc, one, 20, (20, 60)), [[20, 20, 20, 23, 60]])
    np.testing.assert_array_equal(A.requantize(acc, one, 20, (18, 18)), [[18] * 5])


def test_accumulators_beyond_24_bits_are_rounded_to_float32_first() -> None:
    # 2^24 + 1 lies between two floats and goes to the even one; 2^24 + 3 goes up.
    acc = i32(2**24 + 1, 2**24 + 3, -(2**24) - 1).reshape(1, -1)
    np.testing.assert_array_equal(A.rescale_accumulator(acc, np.float32(1)), [[2**24, 2**24 + 4, -(2**24)]])
    # Exactly, 2^24 + 1 times 0.5 / 2^24 is above a half and would round to 1; in float32 it is a tie.
    np.testing.assert_array_equal(A.requantize(acc, np.float32(0.5 / 2**24), 7), [[7, 8, 7]])


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.floats(2**-40, 4, width=32),
    st.integers(0, 255),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
)
def test_requantize_is_two_roundings_of_exact_numbers(
    acc: int, multiplier: float, zero_point: int, codes: tuple[int, int]
) -> None:
    bounds = min(codes), max(codes)
    product = float(np.float32(float(np.float32(acc)) * multiplier))  # exact in float64, then rounded once
    exact = round(Fraction(product)) + zero_point  # Python's round is half to even as well
    expected = min(max(exact, bounds[0]), bounds[1])
    assert A.requantize(i32(acc).reshape(1, 1), np.float32(multiplier), zero_point, bounds)[0, 0] == expected


def test_extreme_accumulators_saturate() -> None:
    acc = i32(-(2**31), 2**31 - 1).reshape(1, -1)
    np.testing.assert_array_equal(A.requantize(acc, np.float32(1e20), 100), [[0, 255]])


# Additions


def test_requantize_add_rounds_each_operand_on_its_own() -> None:
    # 0.5 -> 0 and 1.5 -> 2: two roundings, so 2 and not round(2.0); the sum is shifted last.
    acc, residual = i32(1).reshape(1, 1), u8(13).reshape(1, 1)
    assert A.requantize_add(acc, f32(0.5), residual, 0.5, 10, 4)[0, 0] == 0 + 2 + 4


@given(st.integers(0, 2**32 - 1))
def test_a_sum_is_what_the_sum_of_the_reals_rounds_to(seed: int) -> None:
    rng = np.random.default_rng(seed)
    multipliers = rng.uniform(0.01, 2, 2).astype(np.float32)
    a, b = (rng.integers(0, 256, (1, 400)).astype(np.uint8) for _ in range(2))
    real = (a - 100.0) * np.float64(multipliers[0]) + (b - 90.0) * np.float64(multipliers[1]) + 120
    got = A.add(a, float(multipliers[0]), 100, b, float(multipliers[1]), 90, 120)
    clear = np.abs(real - np.floor(real) - 0.5) > 1 / 4096
    np.testing.assert_array_equal(got[clear], np.clip(np.rint(real), 0, 255)[clear])
    assert (np.abs(got - np.clip(real, 0, 255)) <= 0.5 + 1 / 4096).all()


def test_requantize_add_clips_the_sum_and_not_its_terms() -> None:
    acc, residual = i32(-200, 300).reshape(1, -1), u8(255, 0).reshape(1, -1)
    one = np.float32(1)
    np.testing.assert_array_equal(A.requantize_add(acc, one, residual, 1.0, 0, 0), [[55, 255]])
    np.testing.assert_array_equal(A.requantize_add(acc, one, residual, 1.0, 55, 5), [[5, 250]])
    np.testing.assert_array_equal(A.requantize_add(acc, one, residual, 1.0, 55, 5, (6, 9)), [[6, 9]])


def test_a_term_beyond_the_limit_saturates_the_sum_whatever_the_other_is() -> None:
    acc = i32(2**31 - 1, -(2**31)).reshape(1, -1)
    for code in (0, 255):
        residual = u8(code, code).reshape(1, -1)
        out = A.requantize_add(acc, np.float32(1), residual, 255.0, 255 - code, 128)
        np.testing.assert_array_equal(out, [[255, 0]])


def test_the_term_limit_leaves_room_for_the_largest_residual() -> None:
    # |residual| <= 255 * multiplier; up to the multiplier 2^7 the other operand cannot bring a term back.
    assert A.TERM_LIMIT / A.FRACTION > 255 * 128 + 255
    # Both terms at the limit cancel exactly.
    acc, residual = i32(2**31 - 1).reshape(1, 1), u8(0).reshape(1, 1)
    assert A.requantize_add(acc, np.float32(1), residual, 1e30, 1, 9)[0, 0] == 9


def test_add_of_codes_on_different_grids() -> None:
    a, b = u8(10, 20, 255), u8(5, 0, 255)
    # a: (10 - 10, 20 - 10, 245) / 2;  b: (5 - 5, -5, 250) * 2
    np.testing.assert_array_equal(
        A.add(a.reshape(1, -1), 0.5, 10, b.reshape(1, -1), 2.0, 5, 50), [[50, 45, 255]]
    )


@given(st.integers(0, 255), st.integers(0, 255))
def test_add_commutes(x: int, y: int) -> None:
    a, b = u8(x).reshape(1, 1), u8(y).reshape(1, 1)
    assert A.add(a, 0.3, 7, b, 1.7, 200, 31) == A.add(b, 1.7, 200, a, 0.3, 7, 31)


# Rescaling


def test_rescale_by_hand() -> None:
    codes = u8(0, 9, 10, 11, 13, 255).reshape(1, -1)
    np.testing.assert_array_equal(A.rescale(codes, 0.5, 10, 100), [[95, 100, 100, 100, 102, 222]])
    np.testing.assert_array_equal(
        A.rescale(codes, 0.5, 10, 100, (100, 110)), [[100, 100, 100, 100, 102, 110]]
    )


@given(st.integers(0, 255), st.integers(0, 255))
def test_rescaling_to_the_same_grid_changes_nothing(code: int, zero_point: int) -> None:
    assert A.rescale(u8(code).reshape(1, 1), 1.0, zero_point, zero_point)[0, 0] == code


def test_rescale_accumulator_is_per_channel() -> None:
    acc = np.arange(8, dtype=np.int32).reshape(1, 2, 2, 2)
    out = A.rescale_accumulator(acc, f32(0.5, 2.0))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, [[[[0, 0.5], [1, 1.5]], [[8, 10], [12, 14]]]])


# Convolution and dense layers


def test_conv2d_by_hand() -> None:
    x = u8(1, 2, 3, 4).reshape(1, 1, 2, 2)
    weight = np.array([1, -1, 2, -2], np.int8).reshape(1, 1, 2, 2)
    # zero point 1: codes 0 1 2 3 -> 0 - 1 + 4 - 6 = -3
    np.testing.assert_array_equal(A.conv2d(x, weight, i32(10), 1), [[[[7]]]])


def test_padding_is_by_the_zero_point() -> None:
    x = np.full((1, 1, 1, 1), 9, np.uint8)
    weight = np.ones((1, 1, 3, 3), np.int8)
    np.testing.assert_array_equal(A.conv2d(x, weight, i32(0), 9, padding=(1, 1, 1, 1)), [[[[0]]]])
    np.testing.assert_array_equal(A.conv2d(x, weight, i32(0), 4, padding=(1, 1, 1, 1)), [[[[5]]]])


def naive_conv2d(x, weight, bias, zero_point, stride, padding, dilation, groups):
    """Convolve as the sum over its seven loops, in Python's own integers."""
    batch, _, height, width = x.shape
    outputs, depth, rows, columns = weight.shape
    top, left, bottom, right = padding
    out_height = (height + top + bottom - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    out_width = (width + left + right - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    out = np.zeros((batch, outputs, out_height, out_width), np.int64)
    for n, k, p, q in np.ndindex(*out.shape):
        total = int(bias[k])
        group = k // (outputs // groups)
        for c, r, s in np.ndindex(depth, rows, columns):
            i, j = p * stride[0] + r * dilation[0] - top, q * stride[1] + s * dilation[1] - left
            if 0 <= i < height and 0 <= j < width:
                total += (int(x[n, group * depth + c, i, j]) - zero_point) * int(weight[k, c, r, s])
        out[n, k, p, q] = total
    return out


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 2),  # batch
    st.tuples(st.integers(1, 6), st.integers(1, 6)),  # height and width
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),  # groups, channels and outputs of one
    st.tuples(st.integers(1, 3), st.integers(1, 3)),  # window
    st.tuples(st.integers(1, 3), st.integers(1, 2)),  # stride
    st.tuples(st.integers(1, 2), st.integers(1, 3)),  # dilation
    st.tuples(*[st.integers(0, 2)] * 4),  # padding
    st.integers(0, 2**32 - 1),
)
def test_conv2d_is_the_naive_sum(batch, image, channels, window, stride, dilation, padding, seed) -> None:
    groups, depth, outputs = channels
    top, left, bottom, right = padding
    if image[0] + top + bottom < dilation[0] * (window[0] - 1) + 1:
        return
    if image[1] + left + right < dilation[1] * (window[1] - 1) + 1:
        return
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (batch, groups * depth, *image)).astype(np.uint8)
    weight = rng.integers(-128, 128, (groups * outputs, depth, *window)).astype(np.int8)
    bias = rng.integers(-1000, 1000, groups * outputs).astype(np.int32)
    zero_point = int(rng.integers(256))
    arguments = (x, weight, bias, zero_point, stride, padding, dilation, groups)
    np.testing.assert_array_equal(A.conv2d(*arguments), naive_conv2d(*arguments))


def test_matmul_by_hand() -> None:
    x = u8(1, 2, 3).reshape(1, 3)
    weight = np.array([[1, -1], [2, 0], [-3, 127]], np.int8)
    # centred on 2: -1 0 1
    np.testing.assert_array_equal(A.matmul(x, weight, i32(10, 20), 2), [[10 - 1 - 3, 20 + 1 + 127]])


def test_matmul_is_a_1x1_convolution() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 3, 5)).astype(np.uint8)
    weight = rng.integers(-127, 128, (5, 7)).astype(np.int8)
    bias = rng.integers(-99, 99, 7).astype(np.int32)
    image = np.ascontiguousarray(x.transpose(0, 2, 1))[..., None]
    convolved = A.conv2d(image, np.ascontiguousarray(weight.T)[..., None, None], bias, 5)
    np.testing.assert_array_equal(A.matmul(x, weight, bias, 5), convolved[..., 0].transpose(0, 2, 1))


# Pooling


def test_average_pool_by_hand() -> None:
    x = u8(1, 2, 3, 4, 5, 6, 7, 8, 9).reshape(1, 1, 3, 3)
    # windows 2x2 of codes centred on 1: 12-4, 16-4, 24-4, 28-4, a quarter each
    pooled = A.average_pool(x, 0.25, 1, 10, (2, 2), (1, 1))
    np.testing.assert_array_equal(pooled, [[[[12, 13], [15, 16]]]])
    np.testing.assert_array_equal(A.average_pool(x, 0.25, 1, 10, (2, 2), (2, 2)), [[[[12]]]])


def test_average_pool_rounds_once_to_even() -> None:
    x = u8(0, 1, 1, 2).reshape(1, 1, 2, 2)  # rows sum to 1 and 3: 0.5 -> 0, 1.5 -> 2
    np.testing.assert_array_equal(A.average_pool(x, 0.5, 0, 0, (1, 2), (1, 2)), [[[[0], [2]]]])


def test_max_pool_by_hand() -> None:
    x = u8(1, 2, 3, 4, 5, 6, 7, 8, 9).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(A.max_pool(x, (2, 2), (1, 1), (0, 0, 0, 0)), [[[[5, 6], [8, 9]]]])
    padded = A.max_pool(x, (2, 2), (2, 2), (1, 0, 0, 1))
    np.testing.assert_array_equal(padded, [[[[2, 3], [8, 9]]]])


def test_padding_of_a_max_pool_never_wins() -> None:
    zeros = np.zeros((1, 1, 2, 2), np.uint8)
    np.testing.assert_array_equal(A.max_pool(zeros, (3, 3), (1, 1), (1, 1, 1, 1)), zeros)


@pytest.mark.parametrize(
    "name", ["requantize", "requantize_add", "add", "rescale", "quantize", "average_pool"]
)
def test_codes_are_uint8(name: str) -> None:
    codes = u8(1).reshape(1, 1, 1, 1)
    acc, one = i32(1).reshape(1, 1, 1, 1), np.float32(1)
    result = {
        "requantize": lambda: A.requantize(acc, one, 0),
        "requantize_add": lambda: A.requantize_add(acc, one, codes, 1.0, 0, 0),
        "add": lambda: A.add(codes, 1.0, 0, codes, 1.0, 0, 0),
        "rescale": lambda: A.rescale(codes, 1.0, 0, 0),
        "quantize": lambda: A.quantize(acc.astype(np.float32), 1.0, 0),
        "average_pool": lambda: A.average_pool(codes, 1.0, 0, 0, (1, 1), (1, 1)),
    }[name]()
    assert result.dtype == np.uint8
