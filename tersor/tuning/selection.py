"""Selection: the model of a kernel family that cross-validation says ranks its kernels best.

A model takes the place of a plainer one only if it ranks what it has not seen at least as well (Spearman) and
is nearer to it. What the choice is worth is found by nested cross-validation: all of it is made again without
some of the kernels, which are then predicted (Stone, Cross-Validatory Choice, JRSS B 1974).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tersor.tuning.regression import Array, Kernels, Model, Predict

FOLDS = 5
# Fewer measured kernels say nothing.
FEWEST = 15
# By so much must the error be less.
MARGIN = 0.05
# The share of kernels that are within the interval.
COVERED = 0.9


@dataclass(frozen=True)
class Score:
    """Spearman's rank correlation, and the mean of |predicted / measured - 1|."""

    spearman: float
    mape: float

    @classmethod
    def of(cls, predicted: Array, measured: Array) -> "Score":
        """Compare logarithms of seconds."""
        with np.errstate(invalid="ignore"):  # all predicted alike: no ranks
            ranks = float(np.corrcoef(rankdata(predicted), rankdata(measured))[0, 1])
        return cls(ranks, float(np.abs(np.exp(predicted - measured) - 1).mean()))


@dataclass(frozen=True)
class Selected:
    """The model that was chosen, each one's score, the score of the choice, and its interval.

    Of kernels that were not seen the share `COVERED` takes `seconds / spread` to `seconds * spread`.
    """

    name: str
    predict: Predict
    scores: Mapping[str, Score]
    score: Score
    spread: float


def select(models: Sequence[Model], kernels: Kernels, log_seconds: Array, seed: int = 0) -> Selected:
    """Choose among models, the plainest first. Raises ValueError for fewer than `FEWEST` kernels."""
    if len(kernels) < FEWEST:
        raise ValueError(f"{FEWEST} kernels are needed to choose a model by, got {len(kernels)}")
    scores = cross_validated(models, kernels, log_seconds, seed)
    chosen = _best(models, scores)
    nested = np.empty_like(log_seconds)
    for others, left_out in folds(len(kernels), seed + 1):
        seen, times = kernels.take(others), log_seconds[others]
        model = _best(models, cross_validated(models, seen, times, seed))
        nested[left_out] = model.fit(seen, times)(kernels.take(left_out))
    spread = float(np.exp(np.quantile(np.abs(nested - log_seconds), COVERED)))
    predict = chosen.fit(kernels, log_seconds)
    return Selected(chosen.name, predict, scores, Score.of(nested, log_seconds), spread)


def cross_validated(
    models: Sequence[Model], kernels: Kernels, log_seconds: Array, seed: int
) -> dict[str, Score]:
    """Score each model by its predictions of kernels that it has not seen."""
    scores = {}
    for model in models:
        predicted = np.empty_like(log_seconds)
        for others, left_out in folds(len(kernels), seed):
            predict = model.fit(kernels.take(others), log_seconds[others])
            predicted[left_out] = predict(kernels.take(left_out))
        scores[model.name] = Score.of(predicted, log_seconds)
    return scores


def folds(count: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Give what to learn from and what to leave out, each kernel left out once."""
    order = np.random.default_rng(seed).permutation(count)
    for fold in range(FOLDS):
        left_out = np.sort(order[fold::FOLDS])
        yield np.setdiff1d(order, left_out), left_out


def _best(models: Sequence[Model], scores: Mapping[str, Score]) -> Model:
    best, *others = models
    for model in others:
        mine, known = scores[model.name], scores[best.name]
        if mine.spearman >= known.spearman and mine.mape < (1 - MARGIN) * known.mape:
            best = model
    return best
