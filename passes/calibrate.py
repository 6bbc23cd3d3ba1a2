"""Calibrate: run the float network over samples and keep statistics of its tensors.

One pass serves every range method and bias correction, in memory that does not depend on the number of
samples.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.passes.grams import GramObserver, Windows
from tersor.statistics import BINS, Statistics, TensorStatistics

SUBSET = 1 << 16
"""Elements of one tensor in one sample that enter the histogram, at most: counting is what costs most,
and ranges from 65536 elements per sample are sharp enough."""

_FINEST = -126  # exponent of the finest bin: its reciprocal is still a finite float32
_LARGE = 1e15  # from here on sums of squares leave float32


class GrowingHistogram:
    """Counts on a grid of bins whose width is a power of two and whose edges are multiples of it.

    Doubling the width joins bins 2j and 2j + 1 to j, and moving the window keeps every bin: so a value
    outside the range costs no count and no rounding, and the result is the same for every order of the
    samples. The range always includes zero.
    """

    def __init__(self) -> None:
        self.exponent = _FINEST
        self.start = 0  # bin i counts (start + i) 2^exponent <= x < (start + i + 1) 2^exponent
        self.counts = np.zeros(BINS, np.int64)
        self._minimum = 0.0
        self._maximum = 0.0

    @property
    def lo(self) -> float:
        """The lower edge of the first bin."""
        return math.ldexp(self.start, self.exponent)

    @property
    def hi(self) -> float:
        """The upper edge of the last bin."""
        return math.ldexp(self.start + BINS, self.exponent)

    def include(self, minimum: float, maximum: float) -> None:
        """Widen the range, if it must be, so that it holds both values."""
        self._minimum = min(self._minimum, minimum)
        self._maximum = max(self._maximum, maximum)
        span = self._maximum - self._minimum
        if not span:
            return
        # A finer width than this cannot do: begin here and double until all fits.
        exponent = max(self.exponent, math.frexp(span / BINS)[1] - 1)
        while self._bin(self._maximum, exponent) - self._bin(self._minimum, exponent) >= BINS:
            exponent += 1
        self._regrid(exponent, self._bin(self._minimum, exponent))

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values inside the range, [elements]."""
        # Scaling by a power of two is exact; scaled down in float32 small negative numbers would end as zero.
        dtype = np.float64 if self.exponent > 0 else np.float32
        scaled = np.multiply(values, math.ldexp(1.0, -self.exponent), dtype=dtype)
        if self.start < 0:
            np.floor(scaled, out=scaled)
        bins = scaled.astype(np.intp)
        if self.start < 0:
            bins -= self.start
        self.counts += np.bincount(bins, minlength=BINS)

    @staticmethod
    def _bin(value: float, exponent: int) -> int:
        return math.floor(math.ldexp(value, -exponent))

    def _regrid(self, exponent: int, start: int) -> None:
        if (exponent, start) == (self.exponent, self.start):
            return
        filled = np.flatnonzero(self.counts)
        # Shifts by 64 and more are undefined; all bins meet in 0 or -1 long before.
        bins = ((filled + self.start) >> min(exponent - self.exponent, 62)) - start
        counts = np.zeros(BINS, np.int64)
        np.add.at(counts, bins, self.counts[filled])
        self.exponent, self.start, self.counts = exponent, start, counts


class Observer:
    """The running statistics of one tensor.

    Extremes and moments are of all elements. Of a tensor with more than SUBSET elements every n-th enters the
    histogram, with n prime to the number of elements, so that it visits all rows, columns and channels alike.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.elements = 0
        self.minimum = math.inf
        self.maximum = -math.inf
        self.histogram = GrowingHistogram()
        self._total: NDArray[np.float64] | None = None
        self._total_of_squares: NDArray[np.float64] | None = None
        self._channel_minimum: NDArray[np.float64] = np.array(math.inf)
        self._channel_maximum: NDArray[np.float64] = np.array(-math.inf)

    def observe(self, tensor: NDArray) -> None:
        """Take in one sample's tensor; raise UserError where it is empty, not finite or changes channels."""
        tensor = _float32(tensor)
        if not tensor.size:
            raise UserError(f"it is empty (shape {list(tensor.shape)})")
        lowest, highest = _extremes(tensor)
        minimum, maximum = float(lowest.min()), float(highest.max())  # a NaN anywhere makes both NaN
        if not (math.isfinite(minimum) and math.isfinite(maximum)):
            raise UserError("it holds NaN or infinite values")
        self._accumulate_moments(tensor, max(-minimum, maximum))
        self._channel_minimum = np.minimum(self._channel_minimum, lowest)
        self._channel_maximum = np.maximum(self._channel_maximum, highest)
        self.samples += 1
        self.elements += tensor.size
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)
        self.histogram.include(minimum, maximum)
        self.histogram.add(tensor.reshape(-1)[:: _stride(tensor.size)])

    def statistics(self) -> TensorStatistics:
        """The statistics so far."""
        assert self._total is not None
        assert self._total_of_squares is not None
        per_channel = self.elements // self._total.size
        return TensorStatistics(
            samples=self.samples,
            elements=self.elements,
            minimum=self.minimum,
            maximum=self.maximum,
            lo=self.histogram.lo,
            hi=self.histogram.hi,
            histogram=self.histogram.counts,
            mean=self._total / per_channel,
            second_moment=self._total_of_squares / per_channel,
            channel_minimum=self._channel_minimum,
            channel_maximum=self._channel_maximum,
        )

    def _accumulate_moments(self, tensor: NDArray[np.float32], magnitude: float) -> None:
        wide = tensor if magnitude < _LARGE else tensor.astype(np.float64)
        # numpy's own loops, not BLAS, whose sums depend on its number of threads.
        if tensor.ndim == 4:
            planes = wide.reshape(*wide.shape[:2], -1)
            total = np.add.reduce(planes, axis=2).sum(axis=0, dtype=np.float64)
            total_of_squares = np.einsum("nci,nci->nc", planes, planes).sum(axis=0, dtype=np.float64)
        else:
            rows = wide.reshape(-1, wide.shape[-1] if wide.ndim else 1)
            total = np.add.reduce(rows, axis=0, dtype=np.float64)
            total_of_squares = np.einsum("ic,ic->c", rows, rows).astype(np.float64)
        if self._total is None or self._total_of_squares is None:
            self._total, self._total_of_squares = total, total_of_squares
        elif total.shape != self._total.shape:
            raise UserError(f"it has {total.size} channels, {self._total.size} in the samples before")
        else:
            self._total += total
            self._total_of_squares += total_of_squares


def calibrate(
    run: Callable[[dict[str, NDArray]], Mapping[str, NDArray]],
    samples: Iterable[Mapping[str, NDArray]],
    progress: Callable[[int], None] | None = None,
    windows: Windows | None = None,
) -> Statistics:
    """Run the float network over the samples and return the statistics of every tensor that `run` yields.

    Of the layers in `windows` their Gram matrices are gathered as well. `run` maps input arrays by name to
    the arrays to observe by name; it may use the same buffers again for the next sample. `progress` is called
    with the number of samples done. Samples are consumed one at a time, once.

    Raises UserError for no samples, and for an input or observed tensor that is empty, not finite or changes
    its number of channels, with the tensor's name and the sample's index (from 0).
    """
    observers: dict[str, Observer] = {}
    grams = {layer: GramObserver() for layer in windows or {}}
    done = 0
    for index, sample in enumerate(samples):
        if not isinstance(sample, Mapping):
            raise UserError(
                f"calibration sample {index} is of type {type(sample).__name__}: "
                "give dictionaries from input name to array"
            )
        inputs = {name: np.asarray(array) for name, array in sample.items()}
        for name, array in inputs.items():
            _check_input(name, array, index)
        tensors = run(inputs)
        for name, tensor in tensors.items():
            try:
                observers.setdefault(name, Observer()).observe(tensor)
            except UserError as error:
                raise UserError(f"cannot calibrate tensor {name!r} at sample {index}: {error}") from error
        for layer, found in (windows or {}).items():
            for window in found:
                # What is no float tensor between layers is an input of the network.
                tensor = tensors[window.tensor] if window.tensor in tensors else inputs[window.tensor]
                grams[layer].observe(window, tensor, index)
        done = index + 1
        if progress is not None:
            progress(done)
    if not done:
        raise UserError("the calibration data is empty: give at least one sample")
    return Statistics(
        {name: observer.statistics() for name, observer in observers.items()},
        {layer: observer.gram() for layer, observer in grams.items()},
    )


def channel_count(shape: Sequence[int]) -> int:
    """Give how many channels the moments of a tensor are of: axis 1 of NCHW, else the last axis."""
    return (shape[1] if len(shape) == 4 else shape[-1]) if shape else 1


def _extremes(tensor: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the least and the greatest value of each channel."""
    if tensor.ndim == 4:
        # Rows first, which are contiguous: twice as fast as all three axes at once.
        planes = tensor.reshape(*tensor.shape[:2], -1)
        low, high = planes.min(axis=2).min(axis=0), planes.max(axis=2).max(axis=0)
    else:
        rows = tensor.reshape(-1, tensor.shape[-1] if tensor.ndim else 1)
        low, high = rows.min(axis=0), rows.max(axis=0)
    return low.astype(np.float64), high.astype(np.float64)


def _check_input(name: str, array: NDArray, index: int) -> None:
    if not array.size:
        raise UserError(f"input {name!r} of calibration sample {index} is empty (shape {list(array.shape)})")
    if array.dtype.kind not in "fiub":
        raise UserError(f"input {name!r} of calibration sample {index} holds {array.dtype}, not numbers")
    if not np.isfinite(array).all():
        raise UserError(f"input {name!r} of calibration sample {index} holds NaN or infinite values")


def _float32(tensor: NDArray) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 too large becomes infinite, and that is refused in words
        return np.ascontiguousarray(tensor, dtype=np.float32).reshape(np.shape(tensor))


def _stride(size: int) -> int:
    stride = -(-size // SUBSET)
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride
