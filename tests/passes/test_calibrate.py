from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.passes.calibrate import SUBSET, GrowingHistogram, Observer, calibrate
from tersor.statistics import BINS, TensorStatistics


def observe(*tensors: NDArray) -> TensorStatistics:
    observer = Observer()
    for tensor in tensors:
        observer.observe(tensor)
    return observer.statistics()


def assert_same(a: TensorStatistics, b: TensorStatistics) -> None:
    assert (a.minimum, a.maximum, a.lo, a.hi) == (b.minimum, b.maximum, b.lo, b.hi)
    np.testing.assert_array_equal(a.histogram, b.histogram)


def brute_force_histogram(values: NDArray, statistics: TensorStatistics) -> NDArray[np.int64]:
    exact = values.astype(np.float64).reshape(-1)
    return np.histogram(exact, statistics.edges)[0]


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
batches = st.lists(st.lists(floats, min_size=1, max_size=8), min_size=1, max_size=6)


@example([[-1e-38], [3e38]])
@given(batches)
def test_no_count_is_lost_or_moved_however_the_range_grows(values: list[list[float]]) -> None:
    arrays = [np.array(batch, np.float32) for batch in values]
    histogram = GrowingHistogram()
    for array in arrays:
        histogram.include(float(array.min()), float(array.max()))
        histogram.add(array)
    at_once = GrowingHistogram()
    everything = np.concatenate(arrays)
    at_once.include(float(everything.min()), float(everything.max()))
    at_once.add(everything)
    assert histogram.counts.sum() == everything.size
    assert (histogram.start, histogram.exponent) == (at_once.start, at_once.exponent)
    assert histogram.lo <= min(0.0, float(everything.min()))
    assert histogram.hi > max(0.0, float(everything.max()))
    np.testing.assert_array_equal(histogram.counts, at_once.counts)


def test_bins_agree_with_a_brute_force_histogram() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(2, 3, 8, 8)).astype(np.float32) * scale for scale in (0.01, 3, 0.5, 700)]
    statistics = observe(*samples)
    np.testing.assert_array_equal(statistics.histogram, brute_force_histogram(np.stack(samples), statistics))


def test_more_than_half_of_the_bins_are_used() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-20, 1.0, 3.0, 1e20):
        statistics = observe(rng.normal(size=(100, 7)).astype(np.float32) * np.float32(scale))
        assert statistics.maximum - statistics.minimum > (statistics.hi - statistics.lo) * 0.49


def test_extremes_and_moments_are_those_of_all_samples() -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(1.0, 2.0, size=(5, 2, 4, 6, 7)).astype(np.float32)
    statistics = observe(*images)
    assert statistics.samples == 5
    assert statistics.elements == images.size
    assert (statistics.minimum, statistics.maximum) == (images.min(), images.max())
    np.testing.assert_allclose(statistics.mean, images.mean(axis=(0, 1, 3, 4), dtype=np.float64), rtol=1e-5)
    expected = np.square(images.astype(np.float64)).mean(axis=(0, 1, 3, 4))
    np.testing.assert_allclose(statistics.second_moment, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (5,), (2, 1, 2, 3, 5)])
def test_channels_are_the_last_axis_of_what_is_no_image(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    statistics = observe(x)
    np.testing.assert_allclose(statistics.mean, x.reshape(-1, 5).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics.second_moment, np.square(x).reshape(-1, 5).mean(axis=0), rtol=1e-5)


def test_the_order_of_samples_does_not_change_range_and_histogram() -> None:
    rng = np.random.default_rng(3)
    samples = [rng.normal(size=(1, 50)).astype(np.float32) * 10.0**i for i in range(-3, 4)]
    assert_same(observe(*samples), observe(*reversed(samples)))


@pytest.mark.parametrize("value", [0.0, -0.0, 5.0, -5.0, 1e-37, -1e-37, 3.4e38, -3.4e38, 1.0, -1.0])
def test_a_constant_tensor_and_a_single_value_work(value: float) -> None:
    for shape in ((1, 3, 4, 4), (7,), ()):
        x = np.full(shape, value, np.float32)
        statistics = observe(x, x)
        assert statistics.histogram.sum() == 2 * x.size
        assert np.count_nonzero(statistics.histogram) == 1
        assert statistics.minimum == statistics.maximum == np.float32(value)
        np.testing.assert_allclose(statistics.mean, np.float32(value), rtol=1e-6)
        np.testing.assert_allclose(
            statistics.second_moment, float(np.float32(value)) ** 2, rtol=1e-6, atol=1e-40
        )


def test_zeros_first_and_huge_outliers_later_keep_all_counts() -> None:
    zeros = np.zeros((1, 4, 3, 3), np.float32)
    outlier = zeros.copy()
    outlier[0, 0, 0, 0] = -3e38
    statistics = observe(zeros, zeros + 1e-30, zeros + 1, outlier)
    assert statistics.histogram.sum() == 4 * 36
    assert statistics.histogram[0] == 1
    assert statistics.minimum == np.float32(-3e38)


def test_large_tensors_enter_the_histogram_by_an_even_subset() -> None:
    channels, rows, columns = 8, 128, 256
    plane = np.broadcast_to(np.arange(columns, dtype=np.float32), (1, channels, rows, columns))
    statistics = observe(np.ascontiguousarray(plane))
    counted = statistics.histogram.sum()
    assert SUBSET / 2 < counted <= SUBSET
    assert statistics.elements == channels * rows * columns
    assert (statistics.minimum, statistics.maximum) == (0, columns - 1)
    per_column = statistics.histogram[statistics.histogram > 0]
    assert per_column.size == columns
    assert per_column.max() - per_column.min() <= 1


def test_calibrate_streams_the_samples_once_and_tells_its_progress() -> None:
    rng = np.random.default_rng(4)
    images = rng.normal(size=(6, 1, 3, 4, 4)).astype(np.float32)
    yielded = []

    def samples() -> Iterator[dict[str, NDArray]]:
        for i, image in enumerate(images):
            yielded.append(i)
            yield {"image": image}

    buffer = np.empty((1, 3, 4, 4), np.float32)

    def run(inputs: dict[str, NDArray]) -> dict[str, NDArray]:
        np.maximum(inputs["image"], 0, out=buffer)
        return {"image": inputs["image"], "relu": buffer}

    done = []
    statistics = calibrate(run, samples(), progress=lambda count: done.append((count, len(yielded))))
    assert done == [(i, i) for i in range(1, 7)]
    assert_same(statistics.tensors["image"], observe(*images))
    assert_same(statistics.tensors["relu"], observe(*np.maximum(images, 0)))
    again = calibrate(run, [{"image": image} for image in images])
    assert again.digest() == statistics.digest()


def test_bad_calibration_data_is_refused_with_name_and_index() -> None:
    good = {"x": np.ones((1, 2), np.float32)}

    def run(inputs: dict[str, NDArray]) -> dict[str, NDArray]:
        with np.errstate(divide="ignore"):
            return {"inverse": 1 / inputs["x"]}

    with pytest.raises(UserError, match="empty: give at least one sample"):
        calibrate(run, [])
    with pytest.raises(UserError, match=r"'x' of calibration sample 1 holds NaN"):
        calibrate(run, [good, {"x": np.array([[1, np.nan]], np.float32)}])
    with pytest.raises(UserError, match=r"'x' of calibration sample 0 holds NaN or infinite"):
        calibrate(run, [{"x": np.array([[1, np.inf]], np.float32)}])
    with pytest.raises(UserError, match=r"'inverse' at sample 2: it holds NaN or infinite"):
        calibrate(run, [good, good, {"x": np.zeros((1, 2), np.float32)}])
    with pytest.raises(UserError, match=r"'inverse' at sample 1: it has 3 channels, 2 in the samples before"):
        calibrate(run, [good, {"x": np.ones((1, 3), np.float32)}])
    with pytest.raises(UserError, match=r"'x' of calibration sample 0 is empty"):
        calibrate(run, [{"x": np.ones((0, 2), np.float32)}])
    with pytest.raises(UserError, match=r"'nothing' at sample 0: it is empty"):
        calibrate(lambda inputs: {"nothing": np.zeros((0, 3), np.float32)}, [good])
    with pytest.raises(UserError, match="not numbers"):
        calibrate(run, [{"x": np.array(["a"])}])
    with pytest.raises(UserError, match="sample 0 is of type ndarray"):
        calibrate(run, np.ones((2, 1, 2), np.float32))  # pyright: ignore[reportArgumentType]


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_float64_and_integer_tensors_are_observed_as_float32(samples: int, seed: int) -> None:
    integers = np.random.default_rng(seed).integers(-100, 100, (samples, 2, 3))
    assert_same(observe(*integers), observe(*integers.astype(np.float32)))
    assert_same(observe(*integers.astype(np.float64)), observe(*integers.astype(np.float32)))
    assert observe(*integers).histogram.shape == (BINS,)
