"""Diagnosis: how far each tensor of a compressed network is from fp32, where the error begins, and why.

The error of a tensor is its noise over its signal (1 / SNR), of the whole tensor or of its typical channel,
whichever is worse: where one channel is much larger than the others, the whole says nothing of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tersor.measure import snr_db

Array = NDArray[Any]
Cause = Literal["saturation", "range", "depthwise", "bias", "weights", "accumulation"]

CODES = 256
JUMP = 4.0  # times the error of what a tensor is computed from: 6 dB
NOTICED = 1e-3  # error of the sources below which a jump has no meaning: 30 dB
POOR = 1e-2  # error of an output that deserves a reason: 20 dB
SHARE = 0.25  # of the noise, which a cause must explain to be named; the jump itself leaves 3/4 to one place
MEAN_SHARE = 0.5  # of the noise that is the mean shift of each channel, for the bias to be named
MEAN_COUNT = 8  # values per channel without which a mean says nothing
TAILS = 0.01  # of the values at each end that do not count for the codes in use


@dataclass(frozen=True)
class Grid:
    """The codes 0 .. `most` of a tensor: ``real = scale * (code - zero_point)``; `scale` may be [C, 1]."""

    scale: float | NDArray[np.float32]
    zero_point: int
    most: int = CODES - 1

    def codes(self, values: Array) -> Array:
        """Give the nearest codes, also those beyond 0 .. `most`."""
        return np.rint(values / self.scale) + self.zero_point

    def kept(self, codes: Array) -> Array:
        """Give the codes that the grid has, nearest to given ones."""
        return np.clip(codes, 0, self.most)

    def reals(self, codes: Array) -> Array:
        """Give the numbers that codes stand for."""
        return self.scale * (codes - self.zero_point)


@dataclass(frozen=True)
class Tensor:
    """A tensor between the parts of a network.

    `layer` makes it, or is the first to read it where `is_result` is not set. `grid` is that of the codes
    which integer layers read of it; None if they read none.
    """

    name: str
    sources: tuple[str, ...] = ()
    layer: str = ""
    is_result: bool = False
    is_depthwise: bool = False
    grid: Grid | None = None
    scheme: str = "fp32"


class Errors:
    """What both networks gave for one tensor, summed per channel over samples.

    Channels are axis 1 of images [N, C, H, W] and the last axis of all others.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.largest = 0.0  # magnitude of the reference
        self.largest_error = 0.0
        self.count = 0  # values per channel
        self.clipped = 0
        self.histogram = np.zeros(CODES, np.int64)
        self._sums: NDArray[np.float64] | None = None

    def add(self, reference: Array, result: Array) -> None:
        """Take in one sample of fp32 and of the compressed network, of the same shape.

        What the compressed network has as float counts as its codes say, which is what integer layers read.
        """
        expected, got = (_by_channel(array) for array in (reference, result))
        if self.tensor.grid is not None:
            got = self.tensor.grid.reals(self.tensor.grid.kept(self.tensor.grid.codes(got)))
        error = got - expected
        self.largest = max(self.largest, float(np.abs(expected).max()))
        self.largest_error = max(self.largest_error, float(np.abs(error).max()))
        self.count += expected.shape[1]
        outside = inside = np.zeros_like(expected)
        if self.tensor.grid is not None:
            grid = self.tensor.grid
            codes = grid.codes(expected)
            kept = grid.kept(codes)
            self.clipped += int((codes != kept).sum())
            self.histogram += np.bincount(kept.astype(np.int64).ravel(), minlength=CODES)
            rounding = grid.reals(kept) - expected
            outside = np.where(codes != kept, rounding, 0)
            inside = rounding - outside
        squares = [np.square(each).sum(1) for each in (expected, error, outside, inside)]
        sums = np.stack([*squares, error.sum(1)])
        self._sums = sums if self._sums is None else self._sums + sums

    @property
    def signal(self) -> NDArray[np.float64]:
        """The sum of squares of the reference, [C]."""
        return self._rows[0]

    @property
    def noise(self) -> NDArray[np.float64]:
        """The sum of squares of the error, [C]."""
        return self._rows[1]

    @property
    def clipping(self) -> NDArray[np.float64]:
        """The part of the noise that the ends of the grid make on fp32's values, [C]."""
        return self._rows[2]

    @property
    def rounding(self) -> NDArray[np.float64]:
        """The part of the noise that the steps of the grid make on fp32's values, [C]."""
        return self._rows[3]

    @property
    def shift(self) -> NDArray[np.float64]:
        """The part of the noise that is the mean of the error, [C]."""
        return np.square(self._rows[4]) / max(self.count, 1)

    @property
    def _rows(self) -> NDArray[np.float64]:
        return np.zeros((5, 1)) if self._sums is None else self._sums

    @property
    def snr(self) -> float | None:
        """The signal-to-noise ratio of the whole tensor in dB."""
        return snr_db(float(self.signal.sum()), float(self.noise.sum()))

    @property
    def saturated(self) -> float | None:
        """The share of fp32's values that lie outside the grid, or None without a grid."""
        values = self.count * self.signal.size
        return None if self.tensor.grid is None or not values else self.clipped / values

    @property
    def relative(self) -> float:
        """Noise over signal, of the whole or of the typical channel, whichever is more."""
        return max(self._whole, self._typical)

    @property
    def _whole(self) -> float:
        signal, noise = float(self.signal.sum()), float(self.noise.sum())
        return noise / signal if signal else float(noise > 0)

    @property
    def _typical(self) -> float:
        used = self.signal > 0
        return float(np.median(self.noise[used] / self.signal[used])) if used.any() else 0.0

    def share(self, part: NDArray[np.float64]) -> float:
        """Give what share of the noise a part of it is, in the view that `relative` takes."""
        if self._whole >= self._typical:
            return float(part.sum() / max(self.noise.sum(), np.finfo(np.float64).tiny))
        used = (self.signal > 0) & (self.noise > 0)
        return float(np.median(part[used] / self.noise[used])) if used.any() else 0.0

    @property
    def is_uneven(self) -> bool:
        """Whether the typical channel is far worse off than the whole: a few channels set the range."""
        return self._typical > JUMP * self._whole

    @property
    def codes_in_use(self) -> int:
        """The codes between which all but the tails of the values lie, both included."""
        total = np.cumsum(self.histogram)
        low = int(np.searchsorted(total, TAILS * total[-1], side="right"))
        high = int(np.searchsorted(total, (1 - TAILS) * total[-1], side="left"))
        return high - low + 1


@dataclass(frozen=True)
class Diagnosis:
    """The errors of all tensors in execution order; the first layer where they jump, if any, and why.

    `cause` is None if the compressed network is near fp32 everywhere; `reason` is a sentence in any case.
    """

    errors: tuple[Errors, ...]
    layer: str | None
    cause: Cause | None
    reason: str


def diagnose(errors: Sequence[Errors], outputs: Sequence[str]) -> Diagnosis:
    """Name the first tensor, in order, whose error is JUMP times that of all it is computed from.

    `outputs` are the names of the network's outputs among the tensors.
    """
    found = {each.tensor.name: each for each in errors}
    for each in errors:
        before = max((found[name].relative for name in each.tensor.sources if name in found), default=0.0)
        if each.relative > JUMP * max(before, NOTICED):
            cause, reason = _explained(each)
            return Diagnosis(tuple(errors), each.tensor.layer or each.tensor.name, cause, reason)
    worst = max((found[name].relative for name in outputs if name in found), default=0.0)
    if worst > POOR:
        reason = "no single layer: the error grows little by little from layer to layer"
        return Diagnosis(tuple(errors), None, "accumulation", reason)
    return Diagnosis(tuple(errors), None, None, "no layer stands out, and the outputs are near fp32's")


def _explained(errors: Errors) -> tuple[Cause, str]:
    """Give the cause that explains most of a tensor's error, and a sentence with its numbers."""
    tensor = errors.tensor
    stored = f"its result {tensor.name!r}" if tensor.is_result else f"its input {tensor.name!r}"
    if errors.share(errors.clipping) > SHARE:
        percent = 100 * (errors.saturated or 0)
        return "saturation", f"{percent:.2g} % of {stored} lie outside the range that was calibrated"
    if tensor.grid is not None and errors.share(errors.rounding) > SHARE:
        if tensor.is_depthwise and errors.is_uneven:
            return "depthwise", f"a few channels of {stored} set the range, and leave few codes to the others"
        used = errors.codes_in_use
        return (
            "range",
            f"the calibrated range is too wide: {stored} uses {used} of {tensor.grid.most + 1} codes",
        )
    if errors.count >= MEAN_COUNT and errors.share(errors.shift) > MEAN_SHARE:
        percent = 100 * errors.share(errors.shift)
        return "bias", f"{percent:.0f} % of the error of {stored} is a constant shift of each channel"
    if tensor.is_depthwise:
        return "depthwise", f"a channel of {stored} sums too few products for their rounding to average out"
    return "weights", f"neither range nor bias explain it: what is left is the rounding of {tensor.scheme}"


def _by_channel(array: Array) -> NDArray[np.float64]:
    """Bring the channels to the front, [C, values]."""
    wide = array.astype(np.float64)
    if wide.ndim == 4:
        wide = np.moveaxis(wide, 1, 0)
        return wide.reshape(wide.shape[0], -1)
    return wide.reshape(-1, wide.shape[-1] if wide.ndim else 1).T
