"""The diagnosis of errors in numpy: what is summed, which tensor is named, and which cause."""

import numpy as np
import pytest

from tersor.diagnosis import JUMP, Diagnosis, Errors, Grid, Tensor, diagnose


def errors_of(tensor: Tensor, reference: np.ndarray, result: np.ndarray) -> Errors:
    errors = Errors(tensor)
    errors.add(reference, result)
    return errors


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def on_grid(grid: Grid, array: np.ndarray) -> np.ndarray:
    return grid.reals(np.clip(grid.codes(array), 0, 255))


def layer(name: str, *sources: str, grid: Grid | None = None, is_depthwise: bool = False) -> Tensor:
    return Tensor(f"{name}:out", sources, name, True, is_depthwise, grid, "int8")


def diagnosed(tensor: Tensor, reference: np.ndarray, result: np.ndarray) -> Diagnosis:
    return diagnose([errors_of(tensor, reference, result)], [tensor.name])


def test_sums_are_over_samples_and_channels() -> None:
    errors = Errors(Tensor("t"))
    first, second = values(2, 3, 4, 5), values(2, 3, 4, 5, seed=1)
    errors.add(first, first + 1)
    errors.add(second, second)
    assert errors.signal == pytest.approx((first**2).sum((0, 2, 3)) + (second**2).sum((0, 2, 3)))
    assert errors.noise == pytest.approx([40, 40, 40])
    assert errors.shift == pytest.approx([20, 20, 20])  # the mean of the error is one half
    assert errors.largest_error == pytest.approx(1)
    assert errors.snr == pytest.approx(10 * np.log10(errors.signal.sum() / 120))
    assert errors.saturated is None


def test_noise_on_a_grid_is_what_it_clips_and_what_it_rounds() -> None:
    grid = Grid(0.01, 128)
    reference = values(1, 4, 16, 16)
    errors = errors_of(layer("a", grid=grid), reference, on_grid(grid, reference))
    assert errors.clipping + errors.rounding == pytest.approx(errors.noise)
    outside = (reference > 1.275) | (reference < -1.285)
    assert errors.saturated == pytest.approx(outside.mean())
    assert errors.codes_in_use == 256


def test_the_first_jump_is_named_and_not_what_it_does_to_those_behind_it() -> None:
    x = values(8, 64)
    damaged = x + values(8, 64, seed=1)
    found = diagnose(
        [
            errors_of(layer("a"), x, x),
            errors_of(layer("b", "a:out"), x, damaged),
            errors_of(layer("c", "b:out"), x, x + 1.5 * (damaged - x)),
        ],
        ["c:out"],
    )
    assert (found.layer, found.cause) == ("b", "weights")


def test_an_error_that_grows_little_by_little_has_no_single_layer() -> None:
    x, noise = values(8, 64), values(8, 64, seed=1)
    steps = [0.03 * (0.9 * JUMP) ** (i / 2) for i in range(4)]
    errors = [errors_of(layer(str(i), f"{i - 1}:out"), x, x + size * noise) for i, size in enumerate(steps)]
    found = diagnose(errors, ["3:out"])
    assert (found.layer, found.cause) == (None, "accumulation")
    assert diagnose(errors[:2], ["1:out"]).cause is None


def test_a_range_that_is_too_narrow_saturates() -> None:
    grid, x = Grid(0.001, 128), values(8, 64)
    found = diagnosed(layer("a", grid=grid), x, on_grid(grid, x))
    assert found.cause == "saturation"
    assert "% of its result 'a:out'" in found.reason


def test_a_range_that_is_too_wide_uses_few_codes() -> None:
    grid, x = Grid(0.5, 128), values(8, 64)
    found = diagnosed(layer("a", grid=grid), x, on_grid(grid, x))
    assert found.cause == "range"
    assert "uses 10 of 256 codes" in found.reason


def test_one_large_channel_leaves_few_codes_to_the_others() -> None:
    grid = Grid(2.0, 128)
    x = values(4, 8, 16, 16) * np.array([60.0, *[0.8] * 7]).reshape(1, -1, 1, 1)
    result = on_grid(grid, x)
    assert diagnosed(layer("a", grid=grid, is_depthwise=True), x, result).cause == "depthwise"
    assert diagnosed(layer("a", grid=grid), x, result).cause == "range"
    assert errors_of(layer("a", grid=grid), x, result).snr > 30  # pyright: ignore[reportOptionalOperand]


def test_a_constant_shift_is_a_bias() -> None:
    x = values(2, 8, 16, 16)
    found = diagnosed(layer("a"), x, x + values(1, 8, 1, 1))
    assert found.cause == "bias"
    assert "100 % of the error" in found.reason


def test_a_mean_over_few_values_is_no_bias() -> None:
    x = values(1, 64)
    assert diagnosed(layer("a"), x, x + values(1, 64, seed=1)).cause == "weights"


def test_a_tensor_of_zeros_has_no_error() -> None:
    zero = np.zeros((1, 4))
    found = diagnosed(layer("a", grid=Grid(1.0, 0)), zero, zero)
    assert (found.cause, found.errors[0].snr) == (None, None)
