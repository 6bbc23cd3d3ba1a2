"""What calibration learns of a network's tensors: histograms, and extremes and moments per channel."""

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.gram import Gram
from tersor.saliency import Saliency

BINS = 2048
"""Bins of every histogram: the number TensorRT's KL calibration is defined on (Migacz, GTC 2017)."""

_VERSION = 3
_ORIGIN = "origin/"
_PER_CHANNEL = ("mean", "second_moment", "channel_minimum", "channel_maximum")


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """What was seen of one tensor over all samples.

    `minimum`, `maximum` and the moments are of every element; the histogram may be of a part of them (see
    `tersor.passes.calibrate`), so its sum is at most `elements`.
    """

    samples: int
    elements: int  # over all samples
    minimum: float
    maximum: float
    lo: float  # lower edge of the first bin, <= 0
    hi: float  # upper edge of the last bin, > 0
    histogram: NDArray[
        np.int64
    ]  # [BINS]; bin i counts lo + i w <= x < lo + (i + 1) w with w = (hi - lo) / BINS
    mean: NDArray[np.float64]  # [channels]: E[x]; channels are axis 1 of NCHW, else the last axis
    second_moment: NDArray[np.float64]  # [channels]: E[x^2]
    channel_minimum: NDArray[np.float64]  # [channels]
    channel_maximum: NDArray[np.float64]  # [channels]

    def __post_init__(self) -> None:
        numbers = (self.minimum, self.maximum, self.lo, self.hi)
        if not all(math.isfinite(number) for number in numbers):
            raise UserError(f"statistics need finite ranges, got {numbers}")
        if self.samples < 1 or self.elements < 1:
            raise UserError(
                f"statistics need at least one sample and one element, got {self.samples} and {self.elements}"
            )
        if not self.lo <= self.minimum <= self.maximum <= self.hi or not self.lo <= 0 < self.hi:
            raise UserError(
                "statistics need lo <= minimum <= maximum <= hi and lo <= 0 < hi, got "
                f"minimum {self.minimum}, maximum {self.maximum}, lo {self.lo}, hi {self.hi}"
            )
        if self.histogram.shape != (BINS,) or self.histogram.min() < 0 or self.histogram.sum() < 1:
            raise UserError(f"a histogram needs {BINS} counts >= 0 that are not all 0")
        per_channel = [getattr(self, name) for name in _PER_CHANNEL]
        if self.mean.ndim != 1 or any(each.shape != self.mean.shape for each in per_channel):
            raise UserError(
                "moments and extremes of each channel are needed, got shapes "
                + ", ".join(str(each.shape) for each in per_channel)
            )
        if not all(np.isfinite(each).all() for each in per_channel):
            raise UserError("statistics need finite moments and extremes of each channel")

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' edges, [BINS + 1]."""
        return self.lo + np.arange(BINS + 1, dtype=np.float64) * ((self.hi - self.lo) / BINS)


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics of a network's tensors by tensor name.

    `grams` and `saliencies` are by layer, of those whose compression asks for them. Where the network was
    reshaped (equalized, pruned, factored) before it was calibrated, `origin` has the statistics of the
    network as it came, from which the reshaping can be done again.
    """

    tensors: dict[str, TensorStatistics]
    grams: dict[str, Gram] = field(default_factory=dict)
    origin: "Statistics | None" = None
    saliencies: dict[str, Saliency] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file, whole or not at all; raise UserError where it cannot be written."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        try:
            try:
                with partial.open("wb") as file:
                    np.savez_compressed(file, **self._arrays())  # pyright: ignore[reportArgumentType]
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write the statistics to {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; raise UserError where the file is missing, damaged or something else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls._from_arrays(dict(arrays))
        except OSError as error:
            raise UserError(f"cannot read the statistics {path}: {error.strerror or error}") from error
        except UserError as error:
            raise UserError(f"the statistics {path} are not usable: {error}") from error
        except Exception as error:  # damaged archives end in errors of zlib, zipfile, json and numpy alike
            raise UserError(
                f"{path} does not hold calibration statistics: make it anew by calibrating"
            ) from error

    def digest(self) -> str:
        """The sha256 of names and numbers as hex; equal for equal content in any order."""
        sha = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            sha.update(array.tobytes())
        return sha.hexdigest()

    def _arrays(self) -> dict[str, NDArray]:
        """All tensors in the order of their names as a few little-endian arrays."""
        names = sorted(self.tensors)
        tensors = [self.tensors[name] for name in names]

        def concatenated(arrays: list[NDArray]) -> NDArray[np.float64]:
            return np.concatenate([np.zeros(0, "<f8"), *arrays]).astype("<f8")

        return {
            "version": np.array([_VERSION], "<i8"),
            # JSON in bytes: numpy's own strings lose trailing NULs and are as wide as the longest name.
            "names": np.frombuffer(json.dumps(names).encode(), np.uint8),
            "counts": np.array([(t.samples, t.elements) for t in tensors], "<i8").reshape(-1, 2),
            "numbers": np.array([(t.minimum, t.maximum, t.lo, t.hi) for t in tensors], "<f8").reshape(-1, 4),
            "histogram": np.array([t.histogram for t in tensors], "<i8").reshape(-1, BINS),
            "channels": np.array([t.mean.size for t in tensors], "<i8"),
            **{name: concatenated([getattr(t, name) for t in tensors]) for name in _PER_CHANNEL},
            **_gram_arrays(self.grams),
            **_saliency_arrays(self.saliencies),
            **{
                f"{_ORIGIN}{name}": array
                for name, array in (self.origin._arrays() if self.origin else {}).items()
            },
        }

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray]) -> Self:
        version = int(arrays["version"][0])
        if version != _VERSION:
            raise UserError(
                f"version {version} is not version {_VERSION}, which this tersor reads: calibrate anew"
            )
        names = json.loads(arrays["names"].tobytes())
        bounds = np.cumsum(arrays["channels"])[:-1]
        per_channel = [np.split(arrays[name], bounds) for name in _PER_CHANNEL]
        tensors = {}
        for i, name in enumerate(names):
            samples, elements = map(int, arrays["counts"][i])
            minimum, maximum, lo, hi = map(float, arrays["numbers"][i])
            tensors[name] = TensorStatistics(
                samples,
                elements,
                minimum,
                maximum,
                lo,
                hi,
                arrays["histogram"][i],
                *(each[i] for each in per_channel),
            )
        inner = {
            name.removeprefix(_ORIGIN): each for name, each in arrays.items() if name.startswith(_ORIGIN)
        }
        origin = cls._from_arrays(inner) if inner else None
        return cls(tensors, _grams_of(arrays), origin, _saliencies_of(arrays))


def _gram_arrays(grams: dict[str, Gram]) -> dict[str, NDArray]:
    """Give the Gram matrices in the order of their names; of a symmetric matrix half is kept."""
    arrays: dict[str, NDArray] = {"grams": np.frombuffer(json.dumps(sorted(grams)).encode(), np.uint8)}
    for i, name in enumerate(sorted(grams)):
        gram = grams[name]
        half = np.tril_indices(gram.columns)
        arrays[f"gram{i}.second_moment"] = gram.second_moment[:, *half].astype("<f4")
        arrays[f"gram{i}.mean"] = gram.mean.astype("<f8")
        arrays[f"gram{i}.rows"] = np.array([gram.rows], "<i8")
    return arrays


def _grams_of(arrays: dict[str, NDArray]) -> dict[str, Gram]:
    grams = {}
    for i, name in enumerate(json.loads(arrays["grams"].tobytes())):
        mean = arrays[f"gram{i}.mean"]
        whole = np.zeros((*mean.shape, mean.shape[1]), np.float32)
        down, across = np.tril_indices(mean.shape[1])
        whole[:, down, across] = whole[:, across, down] = arrays[f"gram{i}.second_moment"]
        grams[name] = Gram(whole, mean, int(arrays[f"gram{i}.rows"][0]))
    return grams


def _saliency_arrays(saliencies: dict[str, Saliency]) -> dict[str, NDArray]:
    """Give the saliencies in the order of their names; nothing where there are none."""
    names = sorted(saliencies)
    arrays: dict[str, NDArray] = {}
    if names:
        arrays["saliencies"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    for i, name in enumerate(names):
        arrays[f"saliency{i}.weights"] = saliencies[name].weights.astype("<f4")
        arrays[f"saliency{i}.outputs"] = saliencies[name].outputs.astype("<f8")
        arrays[f"saliency{i}.samples"] = np.array([saliencies[name].samples], "<i8")
    return arrays


def _saliencies_of(arrays: dict[str, NDArray]) -> dict[str, Saliency]:
    names = json.loads(arrays["saliencies"].tobytes()) if "saliencies" in arrays else []
    return {
        name: Saliency(
            arrays[f"saliency{i}.weights"],
            arrays[f"saliency{i}.outputs"],
            int(arrays[f"saliency{i}.samples"][0]),
        )
        for i, name in enumerate(names)
    }
