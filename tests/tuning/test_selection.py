"""Cross-validation takes a correction where it helps, refuses it where not, and says how near it is."""

import numpy as np
import pytest

from tersor.tuning.regression import Array, Kernels, Predict, models
from tersor.tuning.selection import COVERED, FEWEST, Score, folds, select

RATES = np.array([2e-9, 0.5e-9, 4e-9])


def drawn(count: int, seed: int = 0) -> Kernels:
    rng = np.random.default_rng(seed)
    return Kernels(np.exp(rng.uniform(4, 8, (count, 3))), rng.uniform(-1, 1, (count, 4)))


def noise(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 0.05, count)


def test_a_correction_that_helps_is_taken() -> None:
    seen = drawn(48)
    found = select(models(), seen, np.log(seen.parts @ RATES) + 0.5 * seen.features[:, 0] + noise(48, 1))
    assert found.name in ("parts + ridge", "parts + Gaussian process")
    assert found.scores[found.name].spearman > found.scores["parts"].spearman
    assert found.score.mape < 0.1 < found.scores["parts"].mape


@pytest.mark.parametrize("seed", [0, 1])
def test_a_correction_that_does_not_help_is_refused(seed: int) -> None:
    seen, noisy = drawn(30, seed), noise(30, seed + 100)
    assert select(models(), seen, np.log(seen.parts @ RATES) + noisy).name == "parts"
    assert select(models(), seen, np.log(seen.parts.sum(axis=1) * 1e-9) + noisy).name == "analytic"


class Oracle:
    """Nearer than any other model, but it mixes up which of two is the slower."""

    name = "oracle"

    def fit(self, kernels: Kernels, log_seconds: Array) -> Predict:
        return lambda others: np.full(len(others), 0.0)


def test_what_is_nearer_but_ranks_worse_is_refused() -> None:
    seen = drawn(30)
    times = 0.01 * np.log(seen.parts.sum(axis=1))
    times -= times.mean()
    found = select((models()[0], Oracle()), seen, times)
    assert found.scores["oracle"].mape < found.scores["analytic"].mape
    assert found.name == "analytic"


def test_the_interval_holds_as_many_new_kernels_as_it_says() -> None:
    seen, others = drawn(60), drawn(400, 5)
    found = select(models(), seen, np.log(seen.parts @ RATES) + noise(60, 3))
    off = np.abs(found.predict(others) - np.log(others.parts @ RATES) - noise(400, 4))
    assert (off < np.log(found.spread)).mean() == pytest.approx(COVERED, abs=0.08)


def test_the_same_measurements_give_the_same_choice() -> None:
    seen = drawn(30)
    times = np.log(seen.parts @ RATES) + noise(30, 3)
    first, again = (select(models(), seen, times) for _ in range(2))
    assert (first.name, first.scores, first.spread) == (again.name, again.scores, again.spread)


def test_every_kernel_is_left_out_once() -> None:
    left_out = [each for _, part in folds(17, 3) for each in part]
    assert sorted(left_out) == list(range(17))
    assert all(not set(others) & set(part) for others, part in folds(17, 3))


def test_too_few_kernels_are_refused() -> None:
    seen = drawn(FEWEST - 1)
    with pytest.raises(ValueError, match=f"{FEWEST} kernels are needed"):
        select(models(), seen, np.zeros(len(seen)))


def test_a_score_compares_ranks_and_ratios() -> None:
    measured = np.log([1.0, 2.0, 4.0])
    assert Score.of(measured, measured) == Score(pytest.approx(1.0), 0.0)
    assert Score.of(measured + np.log(1.5), measured) == Score(pytest.approx(1.0), pytest.approx(0.5))
    assert Score.of(-measured, measured).spearman == pytest.approx(-1.0)
