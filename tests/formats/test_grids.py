import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tersor.error import UserError
from tersor.formats.grids import Grid, fit
from tersor.formats.kmeans import kmeans
from tersor.scheme import Scheme
from tersor.weight_format import Float, Integer, Microscaling, Ternary, WeightFormat, has_integer_codes

TEXTS = [
    "w8a32", "w7a32", "w4a32", "w3a32", "w2a32", "w4g8", "w3g8", "w8g8", "ternary", "ternaryg8", "binary",
    "binaryg8", "codebook4", "codebook2", "codebook1", "pot4", "pot3", "pot2", "pot4g8", "fp16", "bf16",
    "e4m3", "e5m2", "mxfp4", "mxint8",
]  # fmt: skip
FORMATS = [scheme.weight for text in TEXTS if (scheme := Scheme.parse(text)).weight]
WITH_CODES = [each for each in FORMATS if has_integer_codes(each)]


def weights(rows: int = 6, columns: int = 37, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal((rows, columns)) * generator.uniform(0.01, 2, (rows, 1))).astype(
        np.float32
    )


def error(grid: Grid, matrix: np.ndarray, importance: np.ndarray | float = 1.0) -> float:
    return float((np.square(matrix - grid.nearest(matrix), dtype=np.float64) * importance).sum())


@pytest.mark.parametrize("format", FORMATS, ids=str)
@settings(max_examples=20)
@given(matrix=arrays(np.float32, (3, 19), elements=st.floats(-8, 8, width=32)))
def test_a_number_of_the_grid_is_its_own_nearest(format: WeightFormat, matrix: np.ndarray) -> None:
    for integer in {False, has_integer_codes(format)}:
        grid = fit(matrix, format, integer)
        numbers = grid.nearest(matrix)
        assert numbers.dtype == np.float32
        assert np.array_equal(grid.nearest(numbers), numbers)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_the_nearest_is_one_of_two_neighbours_and_no_farther_than_the_other(format: WeightFormat) -> None:
    matrix = weights()
    grid = fit(matrix, format, has_integer_codes(format))
    nearest, (below, above) = grid.nearest(matrix), grid.neighbours(matrix)
    assert ((nearest == below) | (nearest == above)).all()
    tolerance = 1e-6 * np.abs(matrix).max()
    assert (
        np.abs(nearest - matrix) <= np.minimum(np.abs(below - matrix), np.abs(above - matrix)) + tolerance
    ).all()


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_some_columns_are_rounded_as_in_the_whole(format: WeightFormat) -> None:
    matrix = weights()
    grid = fit(matrix, format, has_integer_codes(format))
    for columns in (slice(5, 6), slice(3, 21), slice(30, None)):
        assert np.array_equal(grid.nearest(matrix[:, columns], columns), grid.nearest(matrix)[:, columns])
        parts = grid.neighbours(matrix[:, columns], columns)
        assert np.array_equal(parts[1], grid.neighbours(matrix)[1][:, columns])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_least_squares_is_no_worse_than_the_largest_magnitude(format: WeightFormat) -> None:
    matrix = weights(columns=96)
    importance = np.random.default_rng(1).uniform(0, 3, 96)
    for integer in {False, has_integer_codes(format)}:
        assert error(fit(matrix, format, integer, "mse"), matrix) <= 1.0001 * error(
            fit(matrix, format, integer), matrix
        )
        weighted = error(fit(matrix, format, integer, "mse", importance), matrix, importance)
        assert weighted <= 1.02 * error(fit(matrix, format, integer, "mse"), matrix, importance)


@pytest.mark.parametrize("format", WITH_CODES, ids=str)
def test_integer_numbers_are_codes_times_the_scale_of_a_row(format: WeightFormat) -> None:
    matrix = weights(columns=64)
    grid = fit(matrix, format, integer=True, method="mse")
    assert grid.scale is not None
    codes = grid.nearest(matrix) / grid.scale[:, None]
    assert np.abs(codes).max() <= 127
    assert np.array_equal(np.rint(codes).astype(np.float32) * grid.scale[:, None], grid.nearest(matrix))


@pytest.mark.parametrize(
    "format", [each for each in FORMATS if str(each) not in ("binary", "binaryg8")], ids=str
)
def test_zero_stays_zero(format: WeightFormat) -> None:
    matrix = weights() * (np.random.default_rng(3).random((6, 37)) < 0.5)
    matrix[2] = 0
    for method in ("nearest", "mse"):
        grid = fit(matrix, format, has_integer_codes(format), method)
        assert not grid.nearest(matrix)[matrix == 0].any()


def test_fewer_bits_err_more_and_groups_less() -> None:
    matrix = weights(columns=128)
    errors = [error(fit(matrix, Integer(bits), True, "mse"), matrix) for bits in range(8, 1, -1)]
    assert errors == sorted(errors)
    for integer in (True, False):
        assert error(fit(matrix, Integer(4, 16), integer, "mse"), matrix) < error(
            fit(matrix, Integer(4), integer, "mse"), matrix
        )


def test_a_ternary_scale_is_the_best_of_all() -> None:
    matrix = weights(1, 9)
    best = error(fit(matrix, Ternary(), False), matrix)
    for codes in itertools.product((-1, 0, 1), repeat=9):
        signs = np.array(codes, np.float64)
        if signs.any():
            scale = (signs @ matrix[0]) / (signs @ signs)
            assert best <= np.square(matrix[0] - scale * signs).sum() + 1e-6


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=9), st.integers(1, 3))
def test_centres_are_near_the_best_partition_of_few_numbers(numbers: list[float], count: int) -> None:
    x = np.sort(np.array(numbers))
    centres = kmeans(x, None, count)
    found = np.square(x[:, None] - centres).min(axis=1).sum()
    whole = np.square(x - x.mean()).sum()
    assert found <= whole + 1e-9


def test_the_centres_of_clear_clusters_are_their_means() -> None:
    x = np.concatenate([np.linspace(-0.1, 0.1, 21) + at for at in (-5, 0, 3)])
    assert np.allclose(kmeans(x, None, 3), [-5, 0, 3])
    assert kmeans(x + 0.3, None, 3, with_zero=True).tolist()[1] == 0
    assert np.allclose(kmeans(np.array([0.0, 1.0]), np.array([1.0, 3.0]), 1), [0.75])


@pytest.mark.parametrize(("name", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_half_precision_is_the_cast(name: str, dtype: type) -> None:
    matrix = weights() * 1000
    rounded = fit(matrix, Float(name), False).nearest(matrix)  # pyright: ignore[reportArgumentType]
    assert np.array_equal(rounded, matrix.astype(dtype).astype(np.float32))


def test_microscaling_has_the_powers_of_two_of_the_standard() -> None:
    matrix = np.zeros((1, 64), np.float32)
    matrix[0, :3], matrix[0, 32:34] = (6.0, -0.5, 0.7), (0.75, 0.01)
    grid = fit(matrix, Microscaling("mxfp4"), False)
    assert grid.scales.tolist() == [[1.0, 0.125]]
    assert grid.nearest(matrix)[0, [0, 1, 2, 32, 33]].tolist() == [6.0, -0.5, 0.5, 0.75, 0.0]


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        fit(np.array([[np.nan, 1]], np.float32), Integer(8), True)
    with pytest.raises(ValueError, match="bf16 weights are no integers"):
        fit(weights(), Float("bf16"), True)
