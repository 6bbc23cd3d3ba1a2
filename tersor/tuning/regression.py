"""Regression: how long kernels take, from the work that they do and from times of others of their family.

    analytic     seconds = one rate * the sum of the parts of the work
    parts        seconds = sum of (a rate for each part) * part
    parts + ...  the same, times exp of a correction that is learned from what describes the shape

The rates are those of least squared relative error, none negative (Lawson and Hanson, Solving Least Squares
Problems, 1974). The correction is scikit-learn's: ridge regression or a Gaussian process (boosted
trees take ten times as long to learn from a few tens of kernels, and were further off).
"""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tersor.error import UserError

Array = NDArray[np.float64]

# A rate is as sure beforehand, that of all parts together, as so many measurements make it.
PRIOR = 1.0


@dataclass(frozen=True, eq=False)
class Kernels:
    """What is known of kernels before they run: cycles [kernels, parts] and features [kernels, features]."""

    parts: Array
    features: Array

    def __post_init__(self) -> None:
        if self.parts.ndim != 2 or self.features.ndim != 2 or len(self.parts) != len(self.features):
            raise ValueError("parts and features need a row for each kernel")

    def __len__(self) -> int:
        return len(self.parts)

    def take(self, rows: NDArray[np.intp]) -> "Kernels":
        """Give some of the kernels."""
        return Kernels(self.parts[rows], self.features[rows])


Predict = Callable[[Kernels], Array]  # kernels -> logarithms of seconds


class Model(Protocol):
    """A way to learn the logarithms of seconds, float64 [kernels]."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    def fit(self, kernels: Kernels, log_seconds: Array) -> Predict:
        """Learn from measured kernels to predict others."""
        ...


@dataclass(frozen=True)
class Analytic:
    """The sum of the parts at the one rate that suits the median kernel."""

    name: str = "analytic"

    def fit(self, kernels: Kernels, log_seconds: Array) -> Predict:
        """Find the rate."""
        rate = float(np.median(log_seconds - np.log(kernels.parts.sum(axis=1))))
        return lambda others: np.log(others.parts.sum(axis=1)) + rate


@dataclass(frozen=True)
class Parts:
    """Every part at a rate of its own; where measurements say little of one it is near that of all."""

    name: str = "parts"

    def fit(self, kernels: Kernels, log_seconds: Array) -> Predict:
        """Find the rates."""
        shares = kernels.parts / np.exp(log_seconds)[:, None]
        prior = np.diag(np.sqrt(PRIOR * np.square(shares).mean(axis=0)))
        rate = 1 / np.median(shares.sum(axis=1))
        known = np.vstack([shares, prior])
        wanted = np.concatenate([np.ones(len(kernels)), prior.sum(axis=1) * rate])
        rates, _ = nnls(known, wanted)
        return lambda others: np.log(others.parts @ rates)


@dataclass(frozen=True)
class Corrected:
    """`Parts` with a learned correction; `make` gives a new regressor of scikit-learn."""

    name: str
    make: Callable[[int], Any]  # of so many features

    def fit(self, kernels: Kernels, log_seconds: Array) -> Predict:
        """Learn what the parts miss."""
        base = Parts().fit(kernels, log_seconds)
        center = kernels.features.mean(axis=0)
        spread = kernels.features.std(axis=0)
        varying = spread > 1e-9
        regressor = self.make(int(varying.sum()))

        def scaled(some: Kernels) -> Array:
            return ((some.features - center)[:, varying]) / spread[varying]

        # Matrices are small: more threads would only wait for each other.
        with warnings.catch_warnings(), importlib.import_module("threadpoolctl").threadpool_limits(1):
            warnings.simplefilter("ignore")  # of parameters of a kernel at the end of their range
            regressor.fit(scaled(kernels), log_seconds - base(kernels))
        return lambda others: base(others) + np.asarray(regressor.predict(scaled(others)), np.float64)


def models() -> tuple[Model, ...]:
    """Give all, from the plainest. Raises UserError without scikit-learn."""
    return (
        Analytic(),
        Parts(),
        Corrected("parts + ridge", _ridge),
        Corrected("parts + Gaussian process", _gaussian_process),
    )


def _ridge(_features: int) -> Any:
    return _sklearn("linear_model").RidgeCV(np.logspace(0, 4, 9))


def _gaussian_process(_features: int) -> Any:
    process = _sklearn("gaussian_process")
    kernels = process.kernels
    shape = kernels.ConstantKernel(0.02, (1e-4, 1)) * kernels.RBF(5.0, (1.0, 1e2))
    return process.GaussianProcessRegressor(shape + kernels.WhiteKernel(0.01, (1e-4, 1)))


def _sklearn(part: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError as error:
        raise UserError("learning a CPU's times needs scikit-learn: pip install 'tersor[search]'") from error
